//! The order of small rings, and that no size loses a link.

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Test keys from this number on are keyrings.
const RING: u32 = 1 << 30;

fn hash(number: u32) -> IndexHash {
    IndexHash::new(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15), number >= RING)
}

fn link(links: &mut Links, number: u32) {
    links.insert(hash(number), KeyIx::at(number), None);
}

fn unlink(links: &mut Links, number: u32) {
    assert!(links.remove(hash(number), KeyIx::at(number)));
}

fn collect(links: &mut Links, number: u32) {
    assert!(links.collect(hash(number), KeyIx::at(number)));
}

fn listed(links: &Links) -> Vec<u32> {
    let mut all = Vec::new();
    links.each(&mut |key| all.push(key.place()));
    all
}

fn ring_of(numbers: impl IntoIterator<Item = u32>) -> Links {
    let mut links = Links::default();
    numbers.into_iter().for_each(|number| link(&mut links, number));
    links
}

fn listed_rings(links: &Links) -> Vec<u32> {
    let mut all = Vec::new();
    let done: ControlFlow<()> = links.each_keyring(&mut |key| {
        all.push(key.place() - RING);
        ControlFlow::Continue(())
    });
    assert!(done.is_continue());
    all
}

fn is_apart(links: &Links) -> bool {
    matches!(links.form, Form::Apart(_))
}

fn places_len(links: &Links) -> usize {
    match &links.form {
        Form::Root(_) | Form::List(_) => 0,
        Form::Apart(apart) => apart.places_len(),
    }
}

/// Where the links of an unsplit ring lie.
fn slot_of(links: &Links, number: u32) -> Option<usize> {
    let Form::Root(root) = &links.form else { return None };
    root.slot_of(Leaf::new(hash(number), KeyIx::at(number)))
}

#[test]
fn the_first_link_takes_slot_0_and_later_ones_the_last_free_slot() {
    let links = ring_of(0..16);
    let slots: Vec<_> = (0..16).filter_map(|number| slot_of(&links, number)).collect();
    let expected: Vec<usize> = [0].into_iter().chain((1..16).rev()).collect();
    assert_eq!(slots, expected);
    assert_eq!(listed(&links), [0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn freed_slots_are_used_again_from_the_last() {
    let mut links = ring_of(0..5);
    unlink(&mut links, 1);
    unlink(&mut links, 3);
    link(&mut links, 10);
    assert_eq!(slot_of(&links, 10), Some(15));
    link(&mut links, 11);
    assert_eq!(slot_of(&links, 11), Some(13));
    link(&mut links, 12);
    assert_eq!(slot_of(&links, 12), Some(11));
    assert_eq!(listed(&links), [0, 12, 4, 11, 2, 10]);
}

#[test]
fn slot_0_is_used_last_when_it_is_free() {
    let mut links = ring_of(0..16);
    unlink(&mut links, 0);
    link(&mut links, 20);
    assert_eq!(slot_of(&links, 20), Some(0));
}

#[test]
fn an_unlinked_or_cleared_ring_begins_at_slot_0_again() {
    let mut links = ring_of(0..3);
    (0..3).for_each(|number| unlink(&mut links, number));
    link(&mut links, 7);
    assert_eq!(slot_of(&links, 7), Some(0));
    link(&mut links, 8);
    let mut dropped = Vec::new();
    links.clear(|key| dropped.push(key.place()));
    assert_eq!((dropped, links.len()), (std::vec![7, 8], 0));
    link(&mut links, 9);
    assert_eq!(slot_of(&links, 9), Some(0));
}

#[test]
fn a_root_that_the_collector_emptied_stays_and_slot_15_comes_next() {
    let mut links = ring_of([1]);
    collect(&mut links, 1);
    assert_eq!((links.len(), listed(&links)), (0, Vec::new()));
    link(&mut links, 2);
    assert_eq!(slot_of(&links, 2), Some(15));
    link(&mut links, 3);
    assert_eq!(slot_of(&links, 3), Some(14));
}

#[test]
fn an_equal_link_is_displaced_where_it_stands() {
    let mut links = ring_of(0..4);
    links.insert(hash(2), KeyIx::at(99), Some(KeyIx::at(2)));
    assert_eq!((listed(&links), links.len()), (std::vec![0, 3, 99, 1], 4));
}

#[test]
fn the_seventeenth_link_splits_and_back_at_sixteen_one_root_holds_all() {
    let mut links = ring_of(0..16);
    assert!(!is_apart(&links));
    link(&mut links, 16);
    assert!(is_apart(&links));
    let mut all = listed(&links);
    let order = all.clone();
    all.sort_unstable();
    assert_eq!(all, (0..17).collect::<Vec<_>>());
    unlink(&mut links, 5);
    assert!(!is_apart(&links));
    let left: Vec<_> = order.into_iter().filter(|&number| number != 5).collect();
    assert_eq!(listed(&links), left, "folded in listing order, from slot 0 up");
}

/// Two keyrings, the first in slot 0, and keys 0 to 14: more than a root holds.
fn split_with_rings() -> Links {
    ring_of([RING, RING + 1].into_iter().chain(0..15))
}

#[test]
fn a_split_keeps_the_order_of_keyrings_and_of_up_to_fifteen_others() {
    let mut links = split_with_rings();
    assert_eq!(listed_rings(&links), [0, 1]);
    let others: Vec<u32> = (0..14).rev().chain([14]).collect();
    let all: Vec<u32> = others.iter().copied().chain([RING, RING + 1]).collect();
    assert_eq!(listed(&links), all, "others lie in the root, keyrings below");
    link(&mut links, RING + 2);
    link(&mut links, RING + 3);
    assert_eq!(listed_rings(&links), [0, 1, 3, 2]);
    unlink(&mut links, 9);
    link(&mut links, 20);
    let refilled: Vec<u32> = others.iter().map(|&n| if n == 9 { 20 } else { n }).collect();
    assert_eq!(listed(&links)[..15], refilled);
}

#[test]
fn unlinking_folds_the_keyrings_behind_the_others() {
    let mut links = split_with_rings();
    unlink(&mut links, 13);
    assert_eq!(slot_of(&links, 12), Some(0));
    assert_eq!(slot_of(&links, RING), Some(14));
    assert_eq!(slot_of(&links, RING + 1), Some(15));
}

#[test]
fn collecting_folds_the_keyrings_into_the_first_free_slots() {
    let mut links = split_with_rings();
    collect(&mut links, 10);
    assert_eq!(slot_of(&links, 13), Some(1), "the others stay where they are");
    assert_eq!(slot_of(&links, RING), Some(0));
    assert_eq!(slot_of(&links, RING + 1), Some(4));
}

#[test]
fn every_keyring_is_visited_once_wherever_it_lies() {
    for rings in [1, 3, 16, 17, 200] {
        let links = ring_of((0..rings).flat_map(|number| [RING + number, number]));
        let mut visited = listed_rings(&links);
        visited.sort_unstable();
        assert_eq!(visited, (0..rings).collect::<Vec<_>>(), "{rings} rings");
    }
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let one = IndexHash::new(0x1234_5678_9abc_def1, false);
    let mut links = Links::default();
    for number in 0..100 {
        links.insert(one, KeyIx::at(number), None);
    }
    for number in 0..100 {
        assert_eq!(links.find(one, |ix| ix.place() == number), Some(KeyIx::at(number)));
        assert!(links.remove(one, KeyIx::at(number)));
        assert_eq!(links.find(one, |ix| ix.place() == number), None);
    }
    assert_eq!(links.len(), 0);
}

#[test]
fn a_ring_that_shrinks_gives_memory_back() {
    let mut links = ring_of(0..10_000);
    let full = places_len(&links);
    (100..10_000).for_each(|number| unlink(&mut links, number));
    assert!(places_len(&links) * 4 < full);
    assert_eq!(links.len(), 100);
    (0..100)
        .for_each(|number| assert!(links.find(hash(number), |ix| ix.place() == number).is_some()));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Link(u32),
    Unlink(u32),
    Collect(u32),
    Clear,
}

fn steps(numbers: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        300 => (0..numbers).prop_map(Step::Link),
        140 => (0..numbers).prop_map(Step::Unlink),
        60 => (0..numbers).prop_map(Step::Collect),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1000..3000)
}

/// The same steps on a map, with every answer compared; then every link is found.
/// Each third key is a keyring; `alike` low bits of the hashes are the same.
fn compare(steps: &[Step], alike: u32) {
    let hash = |number: u32| IndexHash::new(hash(number).bits() << alike, number % 3 == 0);
    let mut links = Links::default();
    let mut model = BTreeMap::new();
    for &step in steps {
        match step {
            Step::Link(number) => {
                let generation = model.len() as u32 + (number << 12);
                let same = |ix: KeyIx| ix.place() >> 12 == number;
                let equal = links.find(hash(number), same);
                links.insert(hash(number), KeyIx::at(generation), equal);
                assert_eq!(equal, model.insert(number, KeyIx::at(generation)));
            }
            Step::Unlink(number) => {
                let linked = links.find(hash(number), |ix| ix.place() >> 12 == number);
                assert_eq!(linked, model.remove(&number));
                assert!(linked.is_none_or(|key| links.remove(hash(number), key)));
            }
            Step::Collect(number) => {
                let key = model.remove(&number);
                let found = key.is_some_and(|key| links.collect(hash(number), key));
                assert_eq!(found, key.is_some());
            }
            Step::Clear => {
                let mut dropped = 0;
                links.clear(|_| dropped += 1);
                assert_eq!(dropped, model.len());
                model.clear();
            }
        }
        assert_eq!(links.len(), model.len());
    }
    let mut listed = listed(&links);
    listed.sort_unstable();
    assert_eq!(listed, model.values().map(|key| key.place()).collect::<Vec<_>>());
    for (&number, &key) in &model {
        assert_eq!(links.find(hash(number), |ix| ix.place() >> 12 == number), Some(key));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_small_ring_loses_nothing(steps in steps(40)) {
        compare(&steps, 0);
    }

    #[test]
    fn a_large_ring_loses_nothing(steps in steps(2000)) {
        compare(&steps, 0);
    }

    #[test]
    fn a_ring_of_hashes_that_end_alike_loses_nothing(steps in steps(300)) {
        compare(&steps, 32);
    }
}
