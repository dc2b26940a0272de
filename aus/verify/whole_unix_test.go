//go:build unix

package verify

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/bsdiff"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/internal/xz"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// runChild is set in the environment of a process that only runs: the directory with its plan.
const runChild = "VERIFY_RUN_CHILD"

// cost is what a run took.
type cost struct {
	CPU    time.Duration
	RSS    int64 // in bytes, at most so far
	Worked [2]int
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the memory that this process had at most, where the system says it; getrusage counts what the process that
// started it had as well.
func peak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kilobytes, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return kilobytes << 10
}

// TestRunChild is no test of its own: it is the process that only runs.
func TestRunChild(t *testing.T) {
	dir := os.Getenv(runChild)
	if dir == "" {
		t.Skip("what the whole run starts")
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	text, err := os.ReadFile(in("key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		f, err := os.Open(in(planName(i)))
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, err := ReadPlan(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		o := runOptions(t, dir, key.(*rsa.PublicKey))
		o.Work, o.Memory = in(fmt.Sprint("work", i)), 256<<20
		var c cost
		o.work = func(unpacked, patched int) { c.Worked = [2]int{unpacked, patched} }
		before := cpu()
		report, err := Run(t.Context(), lines, o)
		if err != nil {
			t.Fatal(err)
		}
		c.CPU, c.RSS = cpu()-before, peak()
		out, err := os.Create(in(fmt.Sprintf("report%d.jsonl", i)))
		if err != nil {
			t.Fatal(err)
		}
		took, err := json.Marshal(c)
		if err := errors.Join(err, report.WriteJSON(out), out.Close(), os.WriteFile(in(fmt.Sprintf("cost%d.json", i)), took, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func planName(i int) string { return fmt.Sprintf("plan%d.json", i) }

// child prepares a process that runs plans on a release, one after the other, with their results in dir.
func (r *release) child(tb testing.TB, dir string, plans ...[]Line) *exec.Cmd {
	tb.Helper()
	for i, lines := range plans {
		plan, err := json.Marshal(lines)
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, planName(i)), plan, 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	der, err := x509.MarshalPKIXPublicKey(&r.key.PublicKey)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), os.Args[0], "-test.run=^TestRunChild$", "-test.timeout=30m")
	cmd.Env = append(os.Environ(), runChild+"="+dir)
	return cmd
}

// leftBy reads what a process that ran has left of one plan.
func leftBy(tb testing.TB, dir string, i int) (*Report, cost) {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, fmt.Sprintf("report%d.jsonl", i)))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	report, err := ReadResults(f)
	if err != nil {
		tb.Fatal(err)
	}
	var c cost
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("cost%d.json", i)))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return report, c
}

// realRelease is three builds of a real release with a file of their own in every locale. Where they are apart, the builds
// of each release and platform have programs of their own, as those of a real one do; else they have the same.
func realRelease(tb testing.TB, locales int, apart bool) *release {
	tb.Helper()
	dir := testkit.Shared(tb, "corpus", "firefox-small")
	in := func(name string) string { return filepath.Join(dir, name) }
	r := newRelease(tb, in("from.mar"), in("to.mar"), in("reference.partial.mar"), "dependentlibs.list", "precomplete", 3, locales, 2)
	r.same = true
	if apart {
		r.apart(tb)
	}
	return r
}

// apart marks the end of every program that the partial patches: in FROM with the platform and the release, in TO with the
// platform. The patches are made to fit, by one more step.
func (r *release) apart(tb testing.TB) {
	tb.Helper()
	type key struct{ kind, platform, release string }
	bases := map[key]*mar.Reader{}
	var mu sync.Mutex
	unpacked := func(m *mar.Reader, name string) []byte {
		data, err := updater.MemberOf(m.Lookup(name)).Content(context.Background(), patchLimits)
		if err != nil {
			panic(err)
		}
		return data
	}
	program := func(name string) bool {
		return r.partial.Lookup(name+".patch") != nil && !slices.Contains([]string{".ini", ".js"}, filepath.Ext(name))
	}
	fitted := func(patch, old []byte, mark string) []byte {
		h, err := bsdiff.ParseHeader(patch)
		if err != nil {
			panic(err)
		}
		control, rest := patch[32:32+h.Control], patch[32+h.Control:]
		for i, n := range []uint32{uint32(len(old)), bsdiff.Checksum(old), uint32(h.NewSize) + uint32(len(mark)), uint32(h.Control) + 12, uint32(h.Difference), uint32(h.Extra) + uint32(len(mark))} {
			binary.BigEndian.PutUint32(patch[8+4*i:], n)
		}
		step := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(len(mark)))
		return slices.Concat(patch[:32], control, step, make([]byte, 4), rest, []byte(mark))
	}
	r.base = func(kind, platform, release string) *mar.Reader {
		mu.Lock()
		defer mu.Unlock()
		k := key{kind, platform, release}
		if bases[k] != nil {
			return bases[k]
		}
		m := map[string]*mar.Reader{"from": r.from, "to": r.to, "partial": r.partial}[kind]
		a := m.Archive()
		for i, e := range a.Entries {
			name, isPatch := strings.CutSuffix(e.Name, ".patch")
			if !program(name) {
				continue
			}
			content := unpacked(m, e.Name)
			switch {
			case isPatch:
				content = fitted(content, append(unpacked(r.from, name), platform+release...), platform)
			default:
				content = append(content, platform+release...)
			}
			o := xz.WriterOptions{Filter: xz.X86}
			if isPatch {
				o = xz.WriterOptions{}
			}
			a.Entries[i] = mar.BytesEntry(e.Name, e.Mode, packedAs(content, &o))
		}
		var out bytes.Buffer
		if _, err := a.WriteTo(&out); err != nil {
			panic(err)
		}
		made, err := mar.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
		if err != nil {
			panic(err)
		}
		bases[k] = made
		return made
	}
}

// make makes what the server has, and tells how many bytes a run of a plan must read through: those of MARs that are
// offered, for the hash of update.xml and again for their signature.
func (r *release) make(plan []Line) (hashed int) {
	offered := map[string]bool{}
	for _, line := range plan {
		for _, locale := range line.Locales {
			r.about(strings.Replace(line.From, "%locale%", locale, 1))
			offered[strings.Replace(line.To, "%locale%", locale, 1)] = true
			offered[fmt.Sprintf("/partial/%s/%s/%s.mar", line.Platform, line.Release, locale)] = true
		}
	}
	for path := range offered {
		hashed += 2 * r.about(path).size
	}
	return hashed
}

// What twenty locales cost beside one, on a real release. What no sharing takes away is to fetch what they have, and to
// hash what they are offered, twice: for update.xml and for the signature. All are measured in one process, one locale
// before and after the twenty, as the speed of a machine is another from minute to minute.
func TestCost(t *testing.T) {
	testkit.Long(t, "minutes; the figures are of one process")
	for _, c := range []struct {
		name  string
		apart bool
		bound float64
	}{
		{"builds with programs of their own", true, 2},
		{"builds that are all the same", false, 3},
	} {
		r := realRelease(t, 20, c.apart)
		all, few := r.config(), r.config()
		for i := range few {
			few[i].Locales = few[i].Locales[:1]
		}
		more := r.make(all) - r.make(few)
		dir := t.TempDir()
		if said, err := r.child(t, dir, few, all, few).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		var took [3]cost
		for i, locales := range []int{1, 20, 1} {
			var report *Report
			report, took[i] = leftBy(t, dir, i)
			if totals := report.Totals(); totals.Pass != totals.Tests || totals.Tests != 12*locales {
				t.Fatalf("%+v: %+v", totals, report.Groups)
			}
		}
		data := make([]byte, 64<<20)
		before := cpu()
		sha512.Sum512(data)
		hashing := time.Duration(float64(cpu()-before) / float64(len(data)) * float64(more))
		one, twenty := (took[0].CPU+took[2].CPU)/2, took[1]
		ratio := float64(twenty.CPU) / float64(one)
		t.Logf("%s: CPU time of one locale %v and %v, of twenty %v: %.2f times; with nothing but hashing for the others %.2f; %d MB of memory; %d and %d members unpacked, %d and %d patches applied",
			c.name, took[0].CPU, took[2].CPU, twenty.CPU, ratio, float64(one+hashing)/float64(one), twenty.RSS>>20,
			took[0].Worked[0], twenty.Worked[0], took[0].Worked[1], twenty.Worked[1])
		if ratio > c.bound {
			t.Errorf("%s: twenty locales cost %.2f times one", c.name, ratio)
		}
	}
}

// The whole at the size of a release: the planted faults are found and nothing else, within the memory that was given;
// a run that is killed in the middle and called again has the same report.
func TestWhole(t *testing.T) {
	testkit.Long(t, "minutes: two runs of 240 tests on a real release")
	r := realRelease(t, 20, false)
	want := r.plant()
	plan := r.config()
	r.make(plan)
	start := time.Now()
	dir := t.TempDir()
	if said, err := r.child(t, dir, plan).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	whole, c := leftBy(t, dir, 0)
	took := time.Since(start)
	checkPlanted(t, whole, want)
	t.Logf("%d tests, %d failures in %d causes: %v, %v of CPU time, %d MB of memory; %d members unpacked, %d patches applied",
		len(whole.Tests), whole.Totals().Fail, len(whole.Groups), took, c.CPU, c.RSS>>20, c.Worked[0], c.Worked[1])
	if c.RSS > 512<<20 {
		t.Errorf("%d MB of memory, where 256 MB are for files that are patched", c.RSS>>20)
	}
	dir = t.TempDir()
	kept := filepath.Join(dir, "work0", "results.jsonl")
	killed := r.child(t, dir, plan)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	done := func() int {
		text, err := os.ReadFile(kept)
		if err != nil {
			return 0
		}
		return strings.Count(string(text), `"key"`)
	}
	for done() < len(whole.Tests)/2 {
		time.Sleep(5 * time.Millisecond)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := killed.Wait(); err == nil {
		t.Fatal("it ended before it was killed")
	}
	before := done()
	if said, err := r.child(t, dir, plan).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	resumed, _ := leftBy(t, dir, 0)
	t.Logf("killed after %d of %d tests; %d were tested after", before, len(whole.Tests), done()-before)
	if done() != len(whole.Tests) && done() != len(whole.Tests)+1 { // a line that the kill has cut is counted as well
		t.Errorf("%d results are kept of %d tests: some were tested twice", done(), len(whole.Tests))
	}
	for _, report := range []*Report{whole, resumed} {
		for i := range report.Tests {
			report.Tests[i].Steps = nil
		}
	}
	a, b := t.TempDir(), t.TempDir()
	for dir, report := range map[string]*Report{a: whole, b: resumed} {
		f, err := os.Create(filepath.Join(dir, "report"))
		if err := errors.Join(err, report.WriteJSON(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	textA, errA := os.ReadFile(filepath.Join(a, "report"))
	textB, errB := os.ReadFile(filepath.Join(b, "report"))
	if errA != nil || errB != nil || string(textA) != string(textB) {
		t.Errorf("the reports differ: %v %v\n%s\n%s", errA, errB, textA, textB)
	}
}
