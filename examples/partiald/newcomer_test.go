package main

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// upload sends a complete update and returns what it is known by.
func (n *node) upload(data []byte) job.Source {
	n.t.Helper()
	res, body, err := n.request(http.MethodPost, "/api/v1/uploads", bytes.NewReader(data), "Content-Type", "application/octet-stream")
	if err != nil {
		n.t.Fatal(err)
	}
	var up job.Upload
	if err := json.Unmarshal(body, &up); err != nil || res.StatusCode/100 != 2 {
		n.t.Fatalf("upload: %s: %s", res.Status, body)
	}
	if up.Size != int64(len(data)) {
		n.t.Fatalf("upload of %d bytes is known as %+v", len(data), up)
	}
	return job.Source{SHA512: up.SHA512, Size: up.Size}
}

// proves says whether a partial turns one complete update into the other.
func proves(tb testing.TB, from, update, to []byte) {
	tb.Helper()
	open := func(data []byte) *mar.Reader {
		tb.Helper()
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			tb.Fatal(err)
		}
		return r
	}
	if err := partial.Verify(tb.Context(), open(from), open(update), open(to), nil); err != nil {
		tb.Errorf("the partial is not the way from FROM to TO: %v", err)
	}
}

// What a newcomer does: start it with nothing, upload two complete updates, download the partial one.
func TestWithoutConfiguration(t *testing.T) {
	t.Parallel()
	from, to := testrelease.Complete(t, "140.1", ""), testrelease.Complete(t, "140.2", "")
	dir := ""
	if strict() { // Firefox, without what is large in it; the pair above takes a twentieth of the time
		dir = testkit.Shared(t, "corpus", "firefox-small")
		var err error
		if from, err = os.ReadFile(filepath.Join(dir, "from.mar")); err != nil {
			t.Fatal(err)
		}
		if to, err = os.ReadFile(filepath.Join(dir, "to.mar")); err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	n := newNode(t)
	n.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home} // nothing else
	n.args = []string{"--listen", "127.0.0.1:0"}                  // the only thing that a newcomer would not say
	n.start()

	if page := n.get("/"); !bytes.Contains(page, []byte("<form")) {
		t.Errorf("the page has no form:\n%.1000s", page)
	}
	accepted := n.accept(job.Spec{From: n.upload(from), To: n.upload(to)})
	st := n.finish(accepted.ID, 5*time.Minute)
	update := n.get("/api/v1/partials/" + st.ID)
	sum := sha512.Sum512(update)
	if st.Result == nil || st.Result.SHA512 != hex.EncodeToString(sum[:]) || st.Result.Size != int64(len(update)) {
		t.Errorf("result %+v, downloaded %d bytes with SHA-512 %x", st.Result, len(update), sum)
	}
	if len(update) >= len(to)/2 {
		t.Errorf("the partial has %d bytes, the complete update %d", len(update), len(to))
	}
	proves(t, from, update, to)

	var provenance senbonzakura.Provenance
	if err := json.Unmarshal(n.get("/api/v1/partials/"+st.ID+"/provenance"), &provenance); err != nil || provenance.Output.SHA512 != st.Result.SHA512 {
		t.Errorf("provenance of %s, %v", provenance.Output.SHA512, err)
	}
	for _, path := range []string{"/api/v1/jobs/" + st.ID, "/api/v1/partials/" + st.ID + "/report", "/api/v1/history", "/api/v1/queue", "/__heartbeat__", "/__version__", "/openapi.json"} {
		if !json.Valid(n.get(path)) {
			t.Errorf("%s is not JSON", path)
		}
	}
	metrics := string(n.get("/metrics"))
	for _, want := range []string{
		`partiald_job_states_total{state="done"} 1`, `partiald_jobs_finished_total{code="",fault="",state="done"} 1`,
		fmt.Sprintf("partiald_partial_bytes_total %d\n", len(update)), `partiald_step_duration_seconds_count{step="diffing"} 1`,
		`partiald_cache_events_total{`, `partiald_queue_jobs{state="waiting"} 0`, `partiald_ready 1`, `partiald_healthy{name="queue"} 1`,
		`partiald_cache_entries{kind="partials"} 1`, `partiald_http_request_duration_seconds_bucket{`, "process_resident_memory_bytes ", "partiald_build_info{",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	if t.Failed() {
		t.Logf("metrics:\n%s", metrics)
	}

	// It is there after a restart, from the book and the cache.
	n.stop()
	if _, err := os.Stat(filepath.Join(home, ".local/state/partiald/ledger.db")); err != nil {
		t.Error(err)
	}
	n.start()
	if again := n.get("/api/v1/partials/" + st.ID); !bytes.Equal(again, update) {
		t.Errorf("after a restart %d bytes, before %d", len(again), len(update))
	}
	if again := n.finish(n.accept(job.Spec{From: st.Spec.From, To: st.Spec.To}).ID, time.Minute); again.ID != st.ID {
		t.Errorf("the same request is job %s now, was %s", again.ID, st.ID)
	}

	if dir == "" {
		return // the independent applier is slow
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 not found: the independent applier was not asked")
	}
	file := filepath.Join(home, "partial.mar")
	if err := os.WriteFile(file, update, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), python, testkit.Shared(t, "oracle", "mar_oracle.py"), "check",
		filepath.Join(dir, "from.mar"), file, filepath.Join(dir, "to.mar")).CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("same")) {
		t.Errorf("the independent applier: %v: %s", err, said)
	}
}

// Everything that is configured for production at once: tokens, a storage plugin, a signing plugin with a policy, TLS.
func TestConfigured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	public, token, reader := filepath.Join(dir, "release.pub.pem"), "a token of enough letters", "another token of enough letters"
	text := withPlugins(t, dir, "test", fmt.Sprintf("seal_file = %q", writeFile(t, dir, "seal", strings.Repeat("s", 40))),
		`require = ["proof", "product"] # so that the policy decides about channels`) +
		withToken(t, dir, "bot", "submit", token) + withToken(t, dir, "reader", "read", reader)
	configured := writeFile(t, dir, "partiald.toml", text)

	o := newOrigin(t)
	from, to := testrelease.Complete(t, "140.1", ""), testrelease.Complete(t, "140.2", "")
	spec := job.Spec{From: o.source("from", from), To: o.source("to", to)}
	n := newNode(t)
	n.args = []string{"--config", configured}
	n.start()
	bot, read := []string{"Authorization", "Bearer " + token}, []string{"Authorization", "Bearer " + reader}
	if res, _, err := n.submit(spec); res == nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a token: %v", err)
	}
	if res, _, err := n.submit(spec, read...); res == nil || res.StatusCode != http.StatusForbidden {
		t.Fatalf("with a token that may only read: %v", err)
	}
	res, st, err := n.submit(spec, append(bot, "Prefer", "wait=60")...)
	if err != nil || res.StatusCode != http.StatusOK || st.State != job.Done {
		t.Fatalf("%v, %+v", err, st)
	}
	if len(st.Result.SignedBy) != 1 {
		t.Errorf("signed by %q, want one key", st.Result.SignedBy)
	}
	update := n.get("/api/v1/partials/"+st.ID, read...)
	proves(t, from, update, to)
	r, err := mar.NewReader(bytes.NewReader(update), int64(len(update)), nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := mar.ParsePublicKey(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), key); err != nil {
		t.Error(err)
	}

	// Another channel is not the key's.
	spec.Channel = "nightly"
	if res, _, err := n.submit(spec, append(bot, "Prefer", "wait=60")...); res == nil || res.StatusCode < 400 || !strings.Contains(fmt.Sprint(err), "policy") {
		t.Errorf("a channel that the policy does not allow: %v", err)
	}
	journal, err := os.ReadFile(filepath.Join(dataDir(n), "signing.journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"outcome":"signed"`, `"outcome":"refused"`, `"channel":"nightly"`} {
		if !bytes.Contains(journal, []byte(want)) {
			t.Errorf("the journal has no %s:\n%s", want, journal)
		}
	}

	// The store has it: a new server with the same store and an empty cache does not make it again.
	n.stop()
	made := o.requests.Load()
	fresh := newNode(t)
	fresh.args = n.args
	fresh.start()
	res, again, err := fresh.submit(job.Spec{From: spec.From, To: spec.To}, append(bot, "Prefer", "wait=60")...)
	if err != nil || res.StatusCode != http.StatusOK || again.Result == nil || !again.Result.Cached || o.requests.Load() != made {
		t.Errorf("%v, %+v, %d fetches", err, again.Result, o.requests.Load()-made)
	}
	if got := fresh.get("/api/v1/partials/"+st.ID, read...); !bytes.Equal(got, update) {
		t.Errorf("%d bytes from the store, want %d", len(got), len(update))
	}
	if got := string(fresh.get("/metrics", read...)); !strings.Contains(got, `partiald_plugin_starts_total{kind="storage",plugin="storage-dir"} 1`) {
		t.Error("the metrics do not have the plugin's starts")
	}
}

// dataDir is the node's directory of everything that must not be lost.
func dataDir(n *node) string {
	for _, e := range n.env {
		if dir, ok := strings.CutPrefix(e, "PARTIALD_DATA="); ok {
			return dir
		}
	}
	return ""
}
