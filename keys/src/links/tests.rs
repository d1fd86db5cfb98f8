//! The order of small rings, and that no size loses a link.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The hash of a test key: spread over the first digit, never a keyring's.
fn hash(number: u32) -> IndexHash {
    IndexHash::new(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, false)
}

fn link(links: &mut Links, number: u32) {
    let key = KeyIx(number);
    assert_eq!(links.insert(hash(number), key, |ix| ix == key), Ok(None));
}

fn unlink(links: &mut Links, number: u32) {
    let key = KeyIx(number);
    assert_eq!(links.remove(hash(number), |ix| ix == key), Some(key));
}

fn collect(links: &mut Links, number: u32) {
    assert!(links.collect(hash(number), KeyIx(number)));
}

fn listed(links: &Links) -> Vec<u32> {
    let mut all = Vec::new();
    links.each(&mut |key| all.push(key.0));
    all
}

fn ring_of(numbers: impl IntoIterator<Item = u32>) -> Links {
    let mut links = Links::default();
    numbers.into_iter().for_each(|number| link(&mut links, number));
    links
}

/// Where the links of an unsplit ring lie.
fn slot_of(links: &Links, number: u32) -> Option<usize> {
    let root = links.root.as_ref()?;
    root.slots.iter().position(|slot| matches!(slot, Slot::Leaf(leaf) if leaf.key.0 == number))
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
    links.clear(|key| dropped.push(key.0));
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
    let displaced = links.insert(hash(2), KeyIx(99), |ix| ix == KeyIx(2));
    assert_eq!(displaced, Ok(Some(KeyIx(2))));
    assert_eq!((listed(&links), links.len()), (std::vec![0, 3, 99, 1], 4));
}

#[test]
fn the_seventeenth_link_splits_and_back_at_sixteen_one_node_holds_all() {
    let mut links = ring_of(0..16);
    let has_node = |links: &Links| {
        links.root.iter().any(|r| r.slots.iter().any(|s| matches!(s, Slot::Node(_))))
    };
    assert!(!has_node(&links));
    link(&mut links, 16);
    assert!(has_node(&links));
    let mut all = listed(&links);
    let order = all.clone();
    all.sort_unstable();
    assert_eq!(all, (0..17).collect::<Vec<_>>());
    unlink(&mut links, 5);
    assert!(!has_node(&links));
    let left: Vec<_> = order.into_iter().filter(|&number| number != 5).collect();
    assert_eq!(listed(&links), left, "folded in listing order, from slot 0 up");
}

#[test]
fn every_keyring_is_visited_once_wherever_it_lies() {
    let ring_hash = |n: u32| IndexHash::new(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15), true);
    for rings in [1, 3, 16, 17, 200] {
        let mut links = Links::default();
        for number in 0..rings {
            assert_eq!(links.insert(ring_hash(number), KeyIx(number), |_| false), Ok(None));
            link(&mut links, 1000 + number);
        }
        let mut visited = Vec::new();
        let done: ControlFlow<()> = links.each_keyring(&mut |key| {
            visited.push(key.0);
            ControlFlow::Continue(())
        });
        assert!(done.is_continue());
        visited.sort_unstable();
        assert_eq!(visited, (0..rings).collect::<Vec<_>>(), "{rings} rings");
    }
}

#[test]
fn seventeen_keys_of_one_hash_are_refused_without_harm_to_the_sixteen() {
    let one = IndexHash::new(0x1234_5678_9abc_def1, false);
    let mut links = Links::default();
    for number in 0..16 {
        assert_eq!(links.insert(one, KeyIx(number), |_| false), Ok(None));
    }
    assert_eq!(links.insert(one, KeyIx(16), |_| false), Err(HashExhausted));
    let mut all = listed(&links);
    all.sort_unstable();
    assert_eq!(all, (0..16).collect::<Vec<_>>());
    assert_eq!(links.len(), 16);
    for number in 0..8 {
        assert_eq!(links.find(one, |ix| ix.0 == number), Some(KeyIx(number)));
        assert_eq!(links.remove(one, |ix| ix.0 == number), Some(KeyIx(number)));
        assert!(links.collect(one, KeyIx(number + 8)));
    }
    assert_eq!(links.len(), 0);
}

#[test]
fn a_slot_takes_sixteen_bytes() {
    assert_eq!(size_of::<Slot>(), 16);
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

/// The same steps on a map, with every answer compared; then every link is found,
/// and the counts of all nodes are right. `alike` bits of the hashes are the same.
fn compare(steps: &[Step], alike: u32) {
    let hash = |number: u32| IndexHash::new(hash(number).bits() << alike | 1, false);
    let mut links = Links::default();
    let mut model = BTreeMap::new();
    for &step in steps {
        match step {
            Step::Link(number) => {
                let generation = model.len() as u32 + (number << 12);
                let same = |ix: KeyIx| ix.0 >> 12 == number;
                let displaced = links.insert(hash(number), KeyIx(generation), same);
                assert_eq!(displaced, Ok(model.insert(number, KeyIx(generation))));
            }
            Step::Unlink(number) => {
                let removed = links.remove(hash(number), |ix| ix.0 >> 12 == number);
                assert_eq!(removed, model.remove(&number));
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
    assert_eq!(listed, model.values().map(|key| key.0).collect::<Vec<_>>());
    for (&number, &key) in &model {
        assert_eq!(links.find(hash(number), |ix| ix.0 >> 12 == number), Some(key));
    }
    links.root.iter().for_each(|root| check_counts(root));
}

fn check_counts(node: &Node) {
    let below = node.slots.iter().map(|slot| match slot {
        Slot::Empty => 0,
        Slot::Leaf(_) => 1,
        Slot::Node(child) => {
            check_counts(child);
            child.leaves
        }
    });
    assert_eq!(below.sum::<usize>(), node.leaves);
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
    fn a_ring_of_hashes_that_begin_alike_loses_nothing(steps in steps(300)) {
        compare(&steps, 32);
    }
}
