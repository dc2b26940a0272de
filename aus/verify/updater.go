package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// RealUpdater is a program to run beside the appliers of this package: Gecko's updater, as users have it. Both must come
// to the same end; where they do not, that is a finding of its own.
type RealUpdater struct {
	Path    string        // of the program; libraries beside it are found
	All     bool          // run it in every full test, not only in the first of each release, platform and patch type and in those that failed
	Timeout time.Duration // after which it is killed; 0: 5 minutes

	sampled map[int]bool
}

// updaterEnd is how a real updater ended.
type updaterEnd struct {
	status  string // of update.status: "succeeded", "failed: 4"
	exit    int    // exit code, or -1 with a signal
	signal  string
	expired bool
	log     []string
}

// real runs the real updater and files a disagreement with ours.
func (r *runner) real(ctx context.Context, line *Line, t *Test, m *fetchedMAR, from *tree, got *outcome, ours *Reason) {
	start := time.Now()
	end, after, err := r.o.Updater.run(ctx, r.dir, line, m.src, from)
	t.Steps["updater_ms"] = time.Since(start).Milliseconds()
	if ctx.Err() != nil {
		return
	}
	finding := func(result Result, reason Reason) {
		reason.UpdaterStatus = end.status
		if len(end.log) > 0 {
			reason.Evidence = &Evidence{Text: end.log}
		}
		t.Reasons = append(t.Reasons, reason)
		if t.Result == Pass || t.Result == Warn && result == Fail {
			t.Result = result
		}
	}
	if err != nil {
		t.Reasons = append(t.Reasons, Reason{Code: SetupTrouble, Detail: "the real updater could not be run: " + err.Error()})
		if t.Result == Pass {
			t.Result = Error
		}
		return
	}
	want := "succeeded"
	if ours != nil && ours.UpdaterStatus != "" {
		want = ours.UpdaterStatus
	}
	how := ""
	switch {
	case end.expired:
		how = "it was killed after its time limit"
	case end.signal != "":
		how = end.signal
	}
	if how == "" && end.status == "applying" {
		how = fmt.Sprintf("it ended in the middle, exit code %d", end.exit)
	}
	crashed := how != "" && end.status != "succeeded"
	switch {
	case end.status == "" && !crashed:
		finding(Fail, Reason{Code: UpdaterNotStarted, Detail: fmt.Sprintf("the real updater wrote no status, exit code %d", end.exit)})
	case crashed && want == "applying", end.status == want && want != "succeeded":
		t.Proved = append(t.Proved, "updater")
	case crashed:
		finding(Fail, Reason{Code: UpdaterCrashed, Detail: fmt.Sprintf("the real updater: %s; ours says %s", how, want)})
	case end.status != want:
		finding(Fail, Reason{Code: ApplierDisagrees, Detail: fmt.Sprintf("the real updater says %q, ours says %q", end.status, want)})
	default:
		if got == nil {
			return
		}
		if diff := differs(after, got.files, line.MARChannelIDs != ""); diff != "" {
			finding(Fail, Reason{Code: ApplierDisagrees, Detail: "both succeed, and the trees differ: " + diff})
			return
		}
		t.Proved = append(t.Proved, "updater")
		if how != "" || end.exit != 0 {
			if how == "" {
				how = fmt.Sprintf("exit code %d", end.exit)
			}
			finding(Warn, Reason{Code: UpdaterDied, Detail: "the real updater, when all was done: " + how})
		}
	}
}

// differs names the first difference of two trees. edited says that channel settings were changed for the real updater.
func differs(a, b map[string]treeFile, edited bool) string {
	for _, name := range sortedNames(a, b) {
		if edited && updater.SettingsName(name) {
			continue
		}
		fa, inA := a[name]
		fb, inB := b[name]
		switch {
		case !inA:
			return name + " is only in ours"
		case !inB:
			return name + " is only in the real updater's"
		case fa.sum != fb.sum:
			return name + " has another content"
		case fa.executable != fb.executable:
			return name + " has another mode"
		}
	}
	return ""
}

func sortedNames(trees ...map[string]treeFile) []string {
	set := map[string]bool{}
	for _, t := range trees {
		for name := range t {
			set[name] = true
		}
	}
	return sortedKeys(set)
}

// acceptedChannels is the line of update-settings.ini that says which channels the installation takes.
var acceptedChannels = regexp.MustCompile(`(?m)^ACCEPTED_MAR_CHANNEL_IDS=.*$`)

// run lays out FROM and the MAR as the client does, runs the program, and reads the tree that it leaves.
func (u *RealUpdater) run(ctx context.Context, work string, line *Line, update marBytes, from *tree) (end updaterEnd, after map[string]treeFile, err error) {
	program, err := filepath.Abs(u.Path)
	if err != nil {
		return end, nil, err
	}
	dir, err := os.MkdirTemp(work, "updater-*")
	if err != nil {
		return end, nil, err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return end, nil, err
	}
	install, patches := filepath.Join(dir, "install"), filepath.Join(dir, "update")
	for _, d := range []string{install, patches} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return end, nil, err
		}
	}
	if err := lay(ctx, from, install, line); err != nil {
		return end, nil, err
	}
	if err := writeSource(filepath.Join(patches, "update.mar"), update); err != nil {
		return end, nil, err
	}
	args := []string{patches, install, install, "0"}
	asked, stop := context.WithTimeout(ctx, 30*time.Second)
	help := exec.CommandContext(asked, program, "--help")
	help.Env, help.Dir = updaterEnv(program), dir
	said, _ := help.CombinedOutput() // it ends with an error whatever it says
	stop()
	if bytes.Contains(said, []byte("which-invocation")) {
		args = []string{"3", patches, install, install, "first", "0"}
	}
	timeout := u.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = updaterEnv(program), install, 5*time.Second
	out, runErr := cmd.CombinedOutput()
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) && limited.Err() == nil {
		return end, nil, runErr
	}
	end.expired = limited.Err() != nil && ctx.Err() == nil
	if cmd.ProcessState != nil {
		if end.exit = cmd.ProcessState.ExitCode(); end.exit < 0 && !end.expired {
			end.signal = cmd.ProcessState.String()
		}
	}
	status, err := readSmall(filepath.Join(patches, "update.status"), 1<<10)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return end, nil, err
	}
	end.status = strings.TrimSpace(clean(status, 100))
	log, err := readSmall(filepath.Join(patches, "update.log"), 4<<20)
	if err != nil || len(log) == 0 {
		log = out
	}
	end.log = lastLines(log, 20)
	after, err = readTree(install)
	return end, after, err
}

func updaterEnv(program string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "LD_LIBRARY_PATH=" + filepath.Dir(program), "MOZ_NO_SERVICE_FALLBACK=1"}
}

func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func lastLines(text []byte, n int) []string {
	var list []string
	for line := range bytes.Lines(bytes.TrimSpace(text)) {
		list = append(list, clean(bytes.TrimRight(line, "\r\n"), maxEvidenceLine))
		if len(list) > n {
			list = list[1:]
		}
	}
	return list
}

func writeSource(name string, src marBytes) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = copyAll(out, io.NewSectionReader(src, 0, src.Size()))
	return errors.Join(err, out.Close())
}

// lay writes FROM into a directory.
func lay(ctx context.Context, from *tree, dir string, line *Line) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range sortedNames(from.files) {
		data, err := from.open(ctx, name)
		if err != nil {
			return err
		}
		if line.MARChannelIDs != "" && updater.SettingsName(name) {
			data = acceptedChannels.ReplaceAllLiteral(data, []byte("ACCEPTED_MAR_CHANNEL_IDS="+line.MARChannelIDs))
		}
		mode := fs.FileMode(0o644)
		if from.files[name].executable {
			mode = 0o755
		}
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, data, mode); err != nil {
			return err
		}
	}
	return nil
}

// readTree reads what an updater left.
func readTree(dir string) (map[string]treeFile, error) {
	files := map[string]treeFile{}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = eachFile(root, ".", func(name string, info fs.FileInfo, content io.Reader) error {
		h := sha256.New()
		size, err := copyAll(h, content)
		var sum digest
		h.Sum(sum[:0])
		files[name] = treeFile{sum, size, mar.Executable(info.Mode())}
		return err
	})
	return files, err
}
