//! Messages of the process events connector as bytes (`linux/cn_proc.h`,
//! `linux/connector.h`, `netlink(7)`).

use super::TaskNews;
use crate::tasks::Place;

/// The multicast group of process events (`CN_IDX_PROC`).
pub(super) const GROUP: u32 = 1;
/// Longer than any message that was asked for.
pub(super) const MESSAGE_LEN_MAX: usize = 256;

/// `CN_VAL_PROC`.
const VALUE: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_*`.
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;
/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// Length of `struct nlmsghdr`, where a message begins.
const NETLINK_LEN: usize = 16;
/// Where `struct proc_event` begins, behind `struct cn_msg`.
const EVENT_AT: usize = NETLINK_LEN + 20;
/// Where the ids begin, behind the kind, the CPU and the time of an event.
const IDS_AT: usize = EVENT_AT + 16;

/// Wishes to be told, the better one first: Linux 6.6 takes one that names the events;
/// before, there is only one for all of them.
pub(super) fn wishes() -> [Vec<u8>; 2] {
    [wish(&[LISTEN, FORK | EXEC | EXIT]), wish(&[LISTEN])]
}

fn wish(words: &[u32]) -> Vec<u8> {
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut message = Vec::new();
    message.extend(((EVENT_AT + data.len()) as u32).to_ne_bytes());
    message.extend(DONE.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(GROUP.to_ne_bytes());
    message.extend(VALUE.to_ne_bytes());
    message.extend([0; 8]);
    message.extend((data.len() as u16).to_ne_bytes());
    message.extend([0; 2]);
    message.extend(data);
    message
}

/// What a message tells; `None` for what we did not ask for.
pub(super) fn parse(message: &[u8]) -> Option<TaskNews> {
    let word = |at: usize| {
        let bytes = message.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let is_event = word(NETLINK_LEN)? == GROUP && word(NETLINK_LEN + 4)? == VALUE;
    // Thread first, process second, in all three.
    let place = |at: usize| Some(Place { tid: word(at)?, pid: word(at + 4)? });
    match word(EVENT_AT).filter(|_| is_event)? {
        FORK => Some(TaskNews::Forked { parent: place(IDS_AT)?, child: place(IDS_AT + 8)? }),
        EXEC => Some(TaskNews::Execed { pid: place(IDS_AT)?.pid }),
        EXIT => place(IDS_AT).map(TaskNews::Ended),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u32, ids: &[u32]) -> Vec<u8> {
        let mut message = wish(&[]);
        message.extend(kind.to_ne_bytes());
        message.extend([0; 12]);
        message.extend(ids.iter().flat_map(|id| id.to_ne_bytes()));
        message
    }

    #[test]
    fn each_event_is_understood() {
        let (parent, child) = (Place { pid: 1, tid: 2 }, Place { pid: 3, tid: 4 });
        let forked = parse(&event(FORK, &[2, 1, 4, 3]));
        assert_eq!(forked, Some(TaskNews::Forked { parent, child }));
        assert_eq!(parse(&event(EXEC, &[3, 3])), Some(TaskNews::Execed { pid: 3 }));
        assert_eq!(parse(&event(EXIT, &[4, 3, 0, 9])), Some(TaskNews::Ended(child)));
    }

    #[test]
    fn what_is_none_is_nothing() {
        assert_eq!(parse(&event(4, &[1, 1, 0, 0])), None);
        let whole = event(FORK, &[2, 1, 4, 3]);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_wish_says_its_own_length() {
        for wish in wishes() {
            assert_eq!(wish[..4], (wish.len() as u32).to_ne_bytes());
        }
    }
}
