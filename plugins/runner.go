package plugins

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// drainTime is how long output is still read after the process ended, in case a grandchild holds the pipes.
const drainTime = 100 * time.Millisecond

// runner is one operating system process of a plugin. It stands between go-plugin and the process: go-plugin
// sees one checked handshake line and nothing else of what the process prints.
type runner struct {
	kind          Kind
	cmd           *exec.Cmd
	thread        *thread
	dir           string // directory of this start: the socket and the plugin's temporary files
	secrets       []Secret
	stdin         *os.File // the host's end; its closing tells the plugin to go
	closeStdin    sync.Once
	out, err      *logWriter
	goOut, goErr  *io.PipeReader // what go-plugin reads: the handshake line, and nothing
	toGo, errToGo *io.PipeWriter
	handshakeErr  atomic.Pointer[error] // set before goOut ends
	pid           int

	exited chan struct{} // closed when the process has ended and its output was read
	ended  error         // valid after exited

	mu      sync.Mutex
	running bool // the process was started
	aborted bool // kill came before the start
	reaped  bool // the process's number may belong to somebody else by now
}

// newRunner prepares a process of the binary.
func newRunner(t *thread, cfg Config, kind Kind, binary, dir string, log *slog.Logger) *runner {
	r := &runner{
		kind: kind, thread: t, dir: dir, secrets: cfg.Secrets,
		out: newLogWriter(log, "stdout"), err: newLogWriter(log, "stderr"),
		exited: make(chan struct{}),
	}
	r.cmd = exec.Command(binary, cfg.Args...) //nolint:noctx // its life is the runner's, not a call's
	r.cmd.Args[0] = filepath.Base(cfg.Path)
	r.cmd.Dir = dir
	r.cmd.Env = append(append([]string{}, cfg.Env...), "TMPDIR="+dir, "TMP="+dir, "TEMP="+dir)
	setGroup(r.cmd)
	r.goOut, r.toGo = io.Pipe()
	r.goErr, r.errToGo = io.Pipe()
	return r
}

// Start starts the process with the environment that go-plugin prepared. It is called once.
func (r *runner) Start(context.Context) (err error) {
	var childEnds, hostEnds []*os.File
	defer func() {
		for _, f := range childEnds {
			f.Close()
		}
		if err != nil {
			for _, f := range hostEnds {
				f.Close()
			}
		}
	}()
	var files [3]*os.File
	for i := range files {
		rd, wr, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("start plugin: %w", err)
		}
		child, host := wr, rd
		if i == 0 {
			child, host = rd, wr
		}
		childEnds, hostEnds = append(childEnds, child), append(hostEnds, host)
		files[i] = child
	}
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = files[0], files[1], files[2]
	for _, s := range r.secrets {
		value, err := s.Value()
		if err != nil {
			return fmt.Errorf("start plugin: secret %s: %w", s.Env, err)
		}
		if len(value) > maxSecret {
			return fmt.Errorf("start plugin: secret %s has %d bytes, more than %d", s.Env, len(value), maxSecret)
		}
		rd, wr, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("start plugin: %w", err)
		}
		childEnds = append(childEnds, rd)
		_, err = wr.Write(value)
		wr.Close()
		if err != nil {
			return fmt.Errorf("start plugin: secret %s: %w", s.Env, err)
		}
		r.cmd.ExtraFiles = append(r.cmd.ExtraFiles, rd)
		r.cmd.Env = append(r.cmd.Env, s.Env+"="+strconv.Itoa(2+len(r.cmd.ExtraFiles)))
	}

	for try := 1; ; try++ {
		r.thread.run(func() { err = r.cmd.Start() })
		if err == nil {
			break
		}
		if !busy(err) || try == 20 {
			return fmt.Errorf("start plugin: %w", err)
		}
		<-time.After(5 * time.Millisecond)
		again := exec.Command(r.cmd.Path) //nolint:noctx // a Cmd cannot be started twice; this is its copy
		again.Args, again.Dir, again.Env, again.SysProcAttr = r.cmd.Args, r.cmd.Dir, r.cmd.Env, r.cmd.SysProcAttr
		again.Stdin, again.Stdout, again.Stderr, again.ExtraFiles = r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr, r.cmd.ExtraFiles
		r.cmd = again
	}
	r.mu.Lock()
	r.pid = r.cmd.Process.Pid
	r.stdin = hostEnds[0]
	r.running = true
	if r.aborted {
		killGroup(r.cmd.Process)
	}
	r.mu.Unlock()
	go r.watch(hostEnds[1], hostEnds[2])
	return nil
}

// watch reads the process's output until it ends, waits for it, and closes exited.
func (r *runner) watch(stdout, stderr *os.File) {
	var reading sync.WaitGroup
	reading.Go(func() {
		in := bufio.NewReaderSize(stdout, maxHandshake)
		line, err := readHandshake(in, r.kind, r.dir)
		if err != nil {
			r.handshakeErr.Store(&err)
			_ = r.toGo.Close()
		} else {
			_, _ = io.WriteString(r.toGo, line+"\n") // fails only when nobody listens any more
		}
		copyLines(r.out, in)
	})
	reading.Go(func() { copyLines(r.err, stderr) })

	waitable(r.pid)
	r.mu.Lock()
	if canWaitFirst {
		killGroup(r.cmd.Process) // the children it left behind
	}
	r.mu.Unlock()
	err := r.cmd.Wait()
	r.mu.Lock()
	r.reaped = true
	r.mu.Unlock()

	for _, f := range []*os.File{stdout, stderr} {
		if f.SetReadDeadline(time.Now().Add(drainTime)) != nil {
			time.AfterFunc(drainTime, func() { f.Close() })
		}
	}
	reading.Wait()
	stdout.Close()
	stderr.Close()
	r.sayGoodbye()
	r.ended = err
	close(r.exited)
	_ = r.toGo.Close()
	_ = r.errToGo.Close()
}

// sayGoodbye closes the plugin's standard input, which tells it to end.
func (r *runner) sayGoodbye() { r.closeStdin.Do(func() { r.stdin.Close() }) }

// kill ends the process and its group at once. Before Start it makes the start a short one.
func (r *runner) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = true
	if r.running && !r.reaped {
		killGroup(r.cmd.Process)
	}
}

// started says whether there is, or was, a process.
func (r *runner) started() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// stop ends the process: politely, and after a moment not. It returns when the process is gone.
func (r *runner) stop(grace time.Duration) {
	r.sayGoodbye()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.exited:
	case <-timer.C:
		r.kill()
		<-r.exited
	}
}

// state describes how the process ended, for errors and logs; call it after exited.
func (r *runner) state() string {
	text := "exit status 0"
	if r.ended != nil {
		text = r.ended.Error()
	}
	return text + r.said()
}

// said returns the plugin's first and last words, if there were any.
func (r *runner) said() string {
	if words := r.err.said(); words != "" {
		return "; it said: " + words
	}
	return ""
}

// The methods below make a runner what go-plugin wants one to be.

func (r *runner) Wait(context.Context) error {
	<-r.exited
	return r.ended
}

func (r *runner) Kill(context.Context) error {
	r.kill()
	return nil
}

func (r *runner) Diagnose(context.Context) string { return "" }

func (r *runner) Stdout() io.ReadCloser { return r.goOut }

func (r *runner) Stderr() io.ReadCloser { return r.goErr }

func (r *runner) Name() string { return r.cmd.Path }

func (r *runner) ID() string { return strconv.Itoa(r.pid) }

func (r *runner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil // readHandshake has checked it
}

func (r *runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
