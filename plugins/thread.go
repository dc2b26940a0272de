package plugins

import "runtime"

// thread is one operating system thread that runs what it is given. A child asks the kernel to be killed when
// its parent dies, but "parent" means the thread that forked it: so all children of a Process come from one
// thread that lives as long as the Process.
type thread struct {
	work chan func()
	done chan struct{}
}

func newThread() *thread {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for f := range t.work {
			f()
		}
	}()
	return t
}

// run calls f on the thread and waits for it.
func (t *thread) run(f func()) {
	ran := make(chan struct{})
	t.work <- func() { defer close(ran); f() }
	<-ran
}

// end stops the thread; every child of it must have ended before.
func (t *thread) end() {
	close(t.work)
	<-t.done
}
