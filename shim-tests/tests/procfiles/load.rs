//! Many readers, many open files, and what memory keeps of them.

use crate::{can_be_put, printed, shell, under_keyshim};

#[test]
fn open_files_are_bounded_and_given_back() {
    if !can_be_put() {
        return;
    }
    let script = "
import errno, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
def open_all():
    files = []
    try:
        while True: files.append(open('/proc/keys'))
    except OSError as error:
        return len(files), errno.errorcode[error.errno]
print(open_all(), open_all())
for i in range(3000): open('/proc/key-users').close()
";
    let told = printed(under_keyshim("seccomp").args(["python3", "-c", script]));
    assert_eq!(told, "(1024, 'ENFILE') (1024, 'ENFILE')\n");
}

/// What one may see is in no page that another could get.
#[test]
fn nothing_goes_through_the_page_cache() {
    if !can_be_put() {
        return;
    }
    let script = "
import errno, mmap, os
for name in ('/proc/keys', '/proc/key-users', '/proc/sys/kernel/keys/maxkeys'):
    file, sink = os.open(name, os.O_RDONLY), os.open('/dev/null', os.O_WRONLY)
    for attempt in range(3):
        assert os.fstat(file).st_size == 0 and os.read(file, 4096)
        try: print(os.sendfile(sink, file, 0, 4096))
        except OSError as error: print(errno.errorcode[error.errno])
        try: os.lseek(file, 0, os.SEEK_END)
        except OSError: pass
        os.close(file)
        file = os.open(name, os.O_RDONLY)
";
    let mut command = under_keyshim("seccomp");
    let told = printed(
        command
            .args(["sh", "-c", "keyctl new_session >/dev/null; exec \"$@\""])
            .args(["sh", "python3", "-c", script]),
    );
    assert_eq!(told, "EINVAL\n".repeat(9));
}

#[test]
fn many_read_while_many_call() {
    if !can_be_put() {
        return;
    }
    let script = "read_all() { i=0; while test $i -lt 100; do i=$((i + 1))
            test \"$(busybox cat /proc/keys | busybox grep -c ' fixed: 1$')\" = 1 || echo lost
        done; }
        keyctl add user fixed x @u >/dev/null
        for n in 1 2 3 4; do read_all & done
        for n in 1 2; do (i=0; while test $i -lt 50; do i=$((i + 1))
            keyctl add user $n:$i x @u >/dev/null; done) & done; wait; echo done";
    assert_eq!(shell("seccomp", script), "done\n");
}
