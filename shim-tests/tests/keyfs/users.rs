//! Who may do what.

use super::{can_mount, session};

#[test]
fn each_right_allows_what_it_allows_and_nothing_else() {
    if !can_mount() {
        return;
    }
    // Of each right alone, for others: what somebody else may do with a key and a keyring.
    let script = r#"cd $d/by-serial; box=$(keyctl newring box @u) key=$(keyctl add user a payload %keyring:box)
        as() { setpriv --reuid=1234 --regid=1234 --clear-groups "$@" >/dev/null 2>&1 && printf $1; }
        try() { as stat $key; as cat $key; as dd of=$key if=/etc/hostname conv=notrunc
            as ls $box/; as find $box/user:a; as mkdir $box/keyring:$1
            as chmod 600 $key; as touch -d @9999999999 $key; as ln $key $own/
            setpriv --reuid=1234 --clear-groups keyctl clear ${own##*/} ; }
        own=$d/by-serial/$(setpriv --reuid=1234 --clear-groups keyctl newring own @u)
        for right in 00 01 02 04 08 10 20; do
            keyctl setperm $key 0x3f0000$right; keyctl setperm $box 0x3f0000$right
            printf "$right:"; try $right; echo; keyctl update $key payload
        done"#;
    let text = session(script);
    let rights: Vec<&str> = text.lines().collect();
    assert_eq!(
        rights,
        // That there is a key of that serial, anybody learns, as from the errors of calls.
        [
            "00:stat",
            "01:stat",
            "02:statcatls",
            "04:statdd",
            "08:statfind",
            "10:statln",
            "20:stattouch"
        ],
        "{text}"
    );
}
