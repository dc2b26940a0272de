package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/internal/testkit"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// A real partiald makes the partial in the server's place, and a client gets one that leads from what it has to what is offered.
func TestRealPartiald(t *testing.T) {
	t.Parallel()
	if testkit.Count(0, 1, 1) == 0 {
		t.Skip("it builds partiald: set SENBON_GATE=1")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "partiald")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "../partiald").CombinedOutput(); err != nil {
		t.Fatalf("build partiald: %v: %s", err, said)
	}
	service := exec.Command(program, "--listen", "127.0.0.1:0")
	service.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "PARTIALD_LOG_FORMAT=json"}
	log := &processLog{more: make(chan struct{})}
	service.Stderr, service.Stdout = log, io.Discard
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := service.Wait(); err != nil {
			t.Errorf("partiald: %v: %s", err, log)
		}
	})
	ready := regexp.MustCompile(`"msg":"ready".*?"address":"([^"]+)"`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var at []string
	for at == nil {
		more := log.wait()
		if at = ready.FindStringSubmatch(log.String()); at != nil {
			break
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("partiald is not ready: %s", log)
		}
	}

	p := startProcess(t, filepath.Join(dir, "state"), "--config", configOf(t, dir, "[log]\nlevel = \"debug\"\n[partiald]\nurl = \"http://"+at[1]+"\"\n"))
	t.Cleanup(func() { p.kill(t) })
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	upload := func(version, buildID string, signer *rsa.PrivateKey) []byte {
		t.Helper()
		data := completeOf(t, version, buildID, signer)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url+"/admin/v1/files/x.complete.mar", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var up struct{ SHA512 string }
		if err := json.NewDecoder(res.Body).Decode(&up); err != nil {
			t.Fatal(err)
		}
		if status, err := p.call(t, http.MethodPost, "/admin/v1/builds", map[string]string{"sha512": up.SHA512}, nil); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
		return data
	}
	// settled waits for what became of so many partials.
	settled := func(n int) (list []book.Demand) {
		t.Helper()
		for {
			more := p.log.wait()
			list = nil
			if _, err := p.call(t, http.MethodGet, "/admin/v1/demand", nil, &list); err != nil {
				t.Fatal(err)
			}
			done := len(list) >= n
			for _, d := range list {
				done = done && d.State != book.Wanted && d.State != book.Working
			}
			if done {
				return list
			}
			select {
			case <-more:
			case <-ctx.Done():
				t.Fatalf("%+v: %s%s", list, p.log, log)
			}
		}
	}
	from, to := upload("90.0", "20240101000000", nil), upload("91.0", "20240102000000", nil)
	if list := settled(1); list[0].State != book.Made {
		t.Fatalf("%+v", list)
	}
	get := func(url string) []byte {
		t.Helper()
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	xml := get(p.url + "/update/3/Fox/90.0/20240101000000/Linux_x86_64-gcc3/en-US/release/x/default/default/update.xml")
	found := regexp.MustCompile(`<patch type="partial" URL="([^"]+)"`).FindSubmatch(xml)
	if found == nil {
		t.Fatalf("%s", xml)
	}
	update := get(string(found[1]))
	open := func(data []byte) *mar.Reader {
		t.Helper()
		r, err := mar.NewReader(bytes.NewReader(data), int64(len(data)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := partial.Verify(t.Context(), open(from), open(update), open(to), nil); err != nil {
		t.Error(err)
	}
	t.Logf("a partial of %d bytes for a complete of %d", len(update), len(to))
	if made := get("http://" + at[1] + "/api/v1/queue"); !json.Valid(made) {
		t.Errorf("%s", made)
	}
	if !strings.Contains(p.log.String(), "had a partial made") || !strings.Contains(string(get("http://"+at[1]+"/metrics")), `partiald_job_states_total{state="done"} 1`) {
		t.Errorf("partiald did not make it: %s", p.log)
	}

	// The complete is signed and partiald has no key, so the partial is not offered.
	upload("92.0", "20240103000000", key)
	for _, d := range settled(3) {
		if d.To.Version == "92.0" && (d.State == book.Made || d.Reason == "") {
			t.Errorf("%+v", d)
		}
	}
}

func configOf(t *testing.T, dir, text string) string {
	t.Helper()
	file := filepath.Join(dir, "ausd.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
