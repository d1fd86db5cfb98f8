// A static Go program: its own system call instruction, many threads, and a runtime that
// interrupts them with SIGURG whenever the collector wants to run.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	goroutines = 64
	rounds     = 60
	session    = ^uintptr(2)

	getKeyringID = 0
	join         = 1
	search       = 10
	read         = 11
)

func fail(what string, errno syscall.Errno) {
	fmt.Printf("BROKEN: %s: %v\n", what, errno)
	os.Exit(99)
}

func cString(text string) *byte {
	bytes, err := syscall.BytePtrFromString(text)
	if err != nil {
		panic(err)
	}
	return bytes
}

// The runtime does not know that a thread is in the kernel, and so interrupts it.
// Memory behind pointers stays where it is only if they are made in the call itself.
func add(kind, description string, payload []byte, ring uintptr) uintptr {
	var start *byte
	if len(payload) > 0 {
		start = &payload[0]
	}
	key, _, errno := syscall.RawSyscall6(syscall.SYS_ADD_KEY, uintptr(unsafe.Pointer(cString(kind))),
		uintptr(unsafe.Pointer(cString(description))), uintptr(unsafe.Pointer(start)),
		uintptr(len(payload)), ring, 0)
	if errno != 0 {
		fail("add "+description, errno)
	}
	return key
}

func readBack(key uintptr) string {
	room := make([]byte, 128)
	count, _, errno := syscall.RawSyscall6(syscall.SYS_KEYCTL, read, key,
		uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)), 0, 0)
	if errno != 0 {
		fail("read", errno)
	}
	return string(room[:count])
}

func find(kind, description string, ring uintptr) uintptr {
	key, _, errno := syscall.RawSyscall6(syscall.SYS_KEYCTL, search, ring,
		uintptr(unsafe.Pointer(cString(kind))), uintptr(unsafe.Pointer(cString(description))), 0, 0)
	if errno != 0 {
		fail("search "+description, errno)
	}
	return key
}

// A call without pointers.
func plain(what string, operation, a, b uintptr) uintptr {
	result, _, errno := syscall.RawSyscall6(syscall.SYS_KEYCTL, operation, a, b, 0, 0, 0)
	if errno != 0 {
		fail(what, errno)
	}
	return result
}

func count(ring uintptr) uintptr {
	return plain("count", read, ring, 0) / 4
}

func work(number int, done *sync.WaitGroup) {
	defer done.Done()
	ring := add("keyring", fmt.Sprintf("ring %d", number), nil, session)
	for round := 0; round < rounds; round++ {
		description := fmt.Sprintf("key %d.%d", number, round)
		text := fmt.Sprintf("text %d.%d", number, round)
		key := add("user", description, []byte(text), ring)
		if found := readBack(key); found != text {
			fmt.Printf("BROKEN: %q instead of %q\n", found, text)
			os.Exit(99)
		}
		nested := add("keyring", "nested", nil, ring)
		if find("keyring", "nested", ring) != nested {
			fmt.Println("BROKEN: another keyring than the one that was made")
			os.Exit(99)
		}
	}
	if links := count(ring); links != rounds+1 {
		fmt.Printf("BROKEN: %d links in a ring\n", links)
		os.Exit(99)
	}
}

// A session keyring is a thread's: only execve takes it to all that come after.
func withSession() {
	runtime.LockOSThread()
	plain("join", join, 0, 0)
	fail("execve", syscall.Exec("/proc/self/exe", []string{os.Args[0], "inner"}, os.Environ()).(syscall.Errno))
}

func main() {
	if len(os.Args) < 2 {
		withSession()
	}
	runtime.GOMAXPROCS(8)
	var over atomic.Bool
	go func() {
		for !over.Load() {
			runtime.GC()
		}
	}()
	var done sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		done.Add(1)
		go work(number, &done)
	}
	done.Wait()
	over.Store(true)
	fmt.Printf("%d goroutines, %d keys each, all there\n", count(plain("session", getKeyringID, session, 0)), rounds)
}
