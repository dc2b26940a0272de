package main

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/senbonzakura/senbonzakura"
	"github.com/senbonzakura/senbonzakura/aus"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/book"
	"github.com/senbonzakura/senbonzakura/examples/ausd/internal/server"
	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial"
)

// tool runs a command and returns its code and what it printed.
func tool(args ...string) (code int, said string) {
	var stdout, stderr strings.Builder
	code = run(args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// Two servers that differ for one client.
func TestCompare(t *testing.T) {
	t.Parallel()
	serve := func(version string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/xml")
			v := "91.0"
			if strings.Contains(r.URL.Path, "/de/") {
				v = version
			}
			fmt.Fprintf(w, `<?xml version="1.0"?><updates><update appVersion="%s"><patch type="complete"/></update></updates>`, v)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	log := filepath.Join(t.TempDir(), "access.log")
	line := `10.0.0.1 - - [01/Dec/2026:12:00:00 +0000] "GET /update/3/Fox/90.0/1/Linux/%s/release/L/d/d/update.xml?force=1 HTTP/1.1" 200 42 "-" "-"` + "\n"
	text := fmt.Sprintf(line, "de") + fmt.Sprintf(line, "de") + fmt.Sprintf(line, "fr") + `10.0.0.1 - - [x] "GET /favicon.ico HTTP/1.1" 404 0` + "\n"
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before, after := serve("91.0"), serve("92.0")
	code, said := tool("compare", "--old", before, "--new", after, "--log", log)
	want := `2 clients: 92.0 complete instead of 91.0 complete
    /update/3/Fox/90.0/1/Linux/de/release/L/d/d/update.xml?force=1
2 queries of 3 clients: 1 get the same, 2 something else
`
	if code != 1 || said != want {
		t.Errorf("code %d: %s, want %s", code, said, want)
	}
	if code, said := tool("compare", "--old", before, "--new", before, "--log", log); code != 0 || !strings.Contains(said, "3 get the same, 0 something else") {
		t.Errorf("the same server: %d %s", code, said)
	}
	if code, said := tool("compare", "--old", before, "--new", "http://127.0.0.1:1", "--log", log); code != 1 || !strings.Contains(said, "3 clients could not be asked for") {
		t.Errorf("no server: %d %s", code, said)
	}
}

// Each thing that may be wrong with a live address.
func TestProbe(t *testing.T) {
	t.Parallel()
	const content, sum = "MAR1 and more", "sha512"
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	xml := func(file, size, hash string) string {
		return `<?xml version="1.0"?><updates><update appVersion="91.0"><patch type="complete" URL="` + web.URL + file + `" hashFunction="` + sum + `" hashValue="` + hash + `" size="` + size + `"/></update></updates>`
	}
	for name, h := range map[string]http.HandlerFunc{
		"good": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		},
		"noranges": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) },
		"nomar":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
	} {
		mux.HandleFunc("/"+name+".mar", h)
	}
	answers := map[string]http.HandlerFunc{}
	mux.HandleFunc("/update/", func(w http.ResponseWriter, r *http.Request) {
		answers[strings.Split(r.URL.Path, "/")[3]](w, r)
	})
	say := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const hash = "e67d0a1d6cdbfa8b1cae4e2d0f0a8a6a" // not that of the file
	size := strconv.Itoa(len(content))
	answers["hash"] = say(200, "text/xml", xml("/good.mar", size, hash))
	answers["size"] = say(200, "text/xml", xml("/good.mar", "5", hash))
	answers["ranges"] = say(200, "text/xml", xml("/noranges.mar", size, hash))
	answers["missing"] = say(200, "text/xml", xml("/missing.mar", size, hash))
	answers["nomar"] = say(200, "text/xml", xml("/nomar.mar", "6", hash))
	answers["html"] = say(200, "text/html", "<html>prove that you are human")
	answers["type"] = say(200, "text/plain", noUpdate)
	answers["status"] = say(403, "text/xml", noUpdate)
	answers["none"] = say(200, "text/xml; charset=utf-8", noUpdate)
	answers["agent"] = func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.UserAgent(), "Gecko") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		say(200, "text/xml", noUpdate)(w, r)
	}
	answers["redirect"] = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(r.URL.Path, "/redirect/", "/none/", 1), http.StatusFound)
	}
	for name, want := range map[string]string{
		"hash": "its sha512 is", "size": "13 bytes, the answer says 5", "ranges": "a range is answered with status 200", "missing": "status 404", "nomar": "it is no MAR file",
		"html": "a page for people", "type": `its type is "text/plain"`, "status": "status 403: a client takes that for an error", "agent": "another User-Agent is answered otherwise",
	} {
		code, said := tool("probe", web.URL+"/update/3/"+name+"/90.0/1/Linux/de/release/L/d/d/update.xml")
		if code != 1 || !strings.Contains(said, "wrong: "+want) {
			t.Errorf("%s: code %d: %s, want %q", name, code, said, want)
		}
	}
	for _, name := range []string{"none", "redirect"} {
		if code, said := tool("probe", web.URL+"/update/3/"+name+"/90.0/1/Linux/de/release/L/d/d/update.xml"); code != 0 || strings.Contains(said, "wrong") {
			t.Errorf("%s: code %d: %s", name, code, said)
		}
	}
}

// webServer is a real web server that serves what was exported for it.
type webServer struct {
	format   string
	programs []string
	// config is its configuration: of a directory in which site has what was exported, and an address.
	config string
	args   []string
}

var realServers = []webServer{
	{"nginx", []string{"nginx", "/usr/sbin/nginx"}, `daemon off;
pid DIR/pid;
error_log DIR/error.log;
events {}
http {
	access_log off;
	client_body_temp_path DIR/b;
	proxy_temp_path DIR/p;
	fastcgi_temp_path DIR/f;
	uwsgi_temp_path DIR/u;
	scgi_temp_path DIR/s;
	server {
		listen ADDRESS;
		include DIR/site/nginx.conf;
	}
}
`, []string{"-p", "DIR", "-c", "DIR/config"}},
	{"caddy", []string{"caddy"}, `{
	admin off
}
http://ADDRESS {
	import DIR/site/Caddyfile
}
`, []string{"run", "--adapter", "caddyfile", "--config", "DIR/config"}},
	{"apache", []string{"apache2", "/usr/sbin/apache2", "httpd"}, `ServerRoot DIR
ServerName localhost
Listen ADDRESS
PidFile DIR/pid
ErrorLog DIR/error.log
Mutex file:DIR default
<IfFile "/usr/lib/apache2/modules">
	Define modules /usr/lib/apache2/modules
</IfFile>
<IfFile "/usr/lib64/httpd/modules">
	Define modules /usr/lib64/httpd/modules
</IfFile>
LoadModule mpm_event_module ${modules}/mod_mpm_event.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule alias_module ${modules}/mod_alias.so
LoadModule headers_module ${modules}/mod_headers.so
LoadModule mime_module ${modules}/mod_mime.so
LoadModule rewrite_module ${modules}/mod_rewrite.so
TypesConfig /dev/null
User nobody
Group nogroup
Include DIR/site/apache.conf
`, []string{"-X", "-f", "DIR/config"}},
}

// start runs the server and returns its address.
func (web *webServer) start(t *testing.T, dir string) string {
	t.Helper()
	program := ""
	for _, name := range web.programs {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Skipf("%s is not installed", web.format)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	here := strings.NewReplacer("DIR", dir, "ADDRESS", address)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(here.Replace(web.config)), 0o600); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, arg := range web.args {
		args = append(args, here.Replace(arg))
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	said, err := os.Create(filepath.Join(dir, "said")) // no pipe, which the processes that it starts would keep
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said.Close()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is told to end
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // other programs tell nobody when they listen
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		gone := false
		select {
		case <-ended:
			gone = true
		default:
		}
		if gone || time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			text, _ := os.ReadFile(said.Name())
			t.Fatalf("%s does not answer: %v: %s%s", web.format, err, log, text)
		}
	}
}

// The files that were exported for a web server are what it answers, as the snapshot does.
func TestExportServers(t *testing.T) {
	t.Parallel()
	for _, web := range realServers {
		t.Run(web.format, func(t *testing.T) {
			t.Parallel()
			testExport(t, &web)
		})
	}
}

func testExport(t *testing.T, web *webServer) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "script", "tools.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "-- rules.json --\n")
	rules, _, _ = strings.Cut(rules, "-- throttled.json --")
	// Not the test's directory, which a server that has given root away may not enter.
	dir, err := os.MkdirTemp("", "ausd") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, site := filepath.Join(dir, "rules.json"), filepath.Join(dir, "site")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, said := tool("export", "--rules", file, "--format", web.format, site); code != 0 {
		t.Fatal(said)
	}
	address := web.start(t, dir)
	snapshot, _, err := openRules(file, 1)
	if err != nil {
		t.Fatal(err)
	}
	queries, _ := server.Clients(snapshot)
	paths := []string{"/update/6/Fox/89.0/1/Linux/de/release/x/y/z/w/update.xml", "/update/6/Fox/90.0/../../../../nginx.conf", "/update/nonsense"}
	for _, q := range queries {
		one := strings.Join([]string{"", "update", "%s", q.Product, q.Version, q.BuildID, q.BuildTarget, q.Locale, q.Channel}, "/")
		paths = append(paths, fmt.Sprintf(one, "6")+"/Linux%206.1%20(GTK)/ISET:SSE4_2,MEM:8192/default/default/update.xml", fmt.Sprintf(one, "3")+"/Linux%206.1/default/default/update.xml?force=1", fmt.Sprintf(one, "1")+"/update.xml")
	}
	updates := 0
	for _, path := range paths {
		a, err := ask(t.Context(), newClient(), "http://"+address+path, "")
		if err != nil {
			t.Fatal(err)
		}
		want := noUpdate
		if q, ok := aus.ParseURL(path, nil); ok && q.Version != "89.0" {
			want = string(snapshot.Answer(q, aus.Env{}).Body)
		}
		if a.Status != 200 || string(a.Body) != want || a.ContentType != "text/xml; charset=utf-8" {
			if strings.Contains(path, "..") && (a.Status >= 400 || len(a.Body) == 0) {
				continue // it leads out of what was exported, where there is nothing
			}
			t.Errorf("%s: %d %s %s, want %s", path, a.Status, a.ContentType, a.Body, want)
		}
		if strings.Contains(string(a.Body), "<update ") {
			updates++
		}
	}
	if updates != 3 {
		t.Errorf("%d updates, want 3", updates)
	}
}

// pack writes a complete update into a file.
func pack(t *testing.T, name, version, buildID string) {
	t.Helper()
	large := make([]byte, 50_000)
	for i := range large { // not compressible
		large[i] = byte(i*i>>3 ^ i>>5)
	}
	copy(large, "\x7fELF\x02\x01\x01")
	large[18], large[19] = 0x3e, 0
	copy(large[len(large)/2:], "version "+version)
	archive, _, err := partial.Pack(t.Context(), fstest.MapFS{
		"application.ini": {Data: []byte("[App]\nName=Fox\nVersion=" + version + "\nBuildID=" + buildID + "\n")},
		"libxul.so":       {Data: large, Mode: 0o755},
	}, partial.PackOptions{Product: &mar.Product{Channel: "test", Version: version}, Compression: partial.Compression{Files: partial.XZ{Level: partial.LevelFast}}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A build system's run: two completes become a site of files, the partial between them included.
func TestMakeAndExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	pack(t, file("old.mar"), "1.0", "20240101000000")
	pack(t, file("new.mar"), "2.0", "20250101000000")
	const url = "https://updates.example.org"
	code, said := tool("make", "--data", file("state"), "--url", url, file("new.mar"), file("old.mar"))
	if code != 0 || !strings.HasPrefix(said, "made: Fox-1.0-20240101000000 to Fox-2.0-20250101000000, Linux_x86_64-gcc3, en-US\n") {
		t.Fatalf("code %d: %s", code, said)
	}
	if code, said := tool("make", "--data", file("state"), "--url", url, "--json"); code != 0 || strings.Count(said, `"state": "made"`) != 1 || strings.Contains(said, "published") {
		t.Errorf("again: %d %s", code, said)
	}
	for range 2 { // the second one replaces the first
		if code, said := tool("export", "--data", file("state"), "--url", url, "--format", "plain", file("site")); code != 0 || !strings.Contains(said, "2 clients of known builds, 1 get an update") {
			t.Fatalf("code %d: %s", code, said)
		}
	}
	body, err := os.ReadFile(file("site/Fox/1.0/20240101000000/Linux_x86_64-gcc3/en-US/release/update.xml"))
	if err != nil {
		t.Fatal(err)
	}
	an := answer{Status: 200, Body: body}
	offers, err := an.offers()
	if err != nil || len(offers) != 1 || len(offers[0].Patches) != 2 {
		t.Fatalf("%+v, %v", offers, err)
	}
	for _, p := range offers[0].Patches {
		data, err := os.ReadFile(file("site" + strings.TrimPrefix(p.URL, url)))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha512.Sum512(data); int64(len(data)) != p.Size || hex.EncodeToString(sum[:]) != p.HashValue {
			t.Errorf("%s is not what the answer says", p.URL)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A server is filled from a file, and another one from that server as from a Balrog: both answer the same.
func TestImport(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "script", "tools.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "-- throttled.json --\n")
	dir := t.TempDir()
	file, queries := filepath.Join(dir, "rules.json"), filepath.Join(dir, "queries.txt")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, channel := range []string{"release", "beta", "nightly"} {
		for _, build := range []string{"90.0/20240301000000", "91.0/20250401000000"} {
			fmt.Fprintf(&list, "/update/6/Fox/%s/Linux/de/%s/Linux%%206/ISET:NA,MEM:8192/default/default/update.xml?force=1\n", build, channel)
		}
	}
	if err := os.WriteFile(queries, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two := startProcess(t, t.TempDir()), startProcess(t, t.TempDir())
	defer one.kill(t)
	defer two.kill(t)
	if code, said := tool("import", "--dry-run", "--server", one.url, file); code != 0 || !strings.Contains(said, "2 rules, 2 releases, 0 pins, 0 shutoffs") || strings.Contains(said, "published") {
		t.Errorf("dry run: %d %s", code, said)
	}
	if code, said := tool("import", "--server", one.url, file); code != 0 || !strings.Contains(said, "published as snapshot 2\n") {
		t.Fatalf("from a file: %d %s", code, said)
	}
	if code, said := tool("compare", "--old", one.url, "--new", two.url, "--queries", queries); code != 1 || !strings.Contains(said, "2 clients: no update instead of 91.0 complete") {
		t.Errorf("before: %d %s", code, said)
	}
	if code, said := tool("import", "--server", two.url, one.url); code != 0 || !strings.Contains(said, "updates may come from: dl.example\n") {
		t.Fatalf("from a server: %d %s", code, said)
	}
	if code, said := tool("compare", "--old", one.url, "--new", two.url, "--queries", queries); code != 0 {
		t.Errorf("after: %d %s", code, said)
	}
	if code, said := tool("import", "--server", two.url, file); code != 0 {
		t.Errorf("again: %d %s", code, said)
	}
	if code, said := tool("import", "--server", two.url, "http://127.0.0.1:1"); code != 1 {
		t.Errorf("from nowhere: %d %s", code, said)
	}
}

// Who keeps answers is told of each publication, by a command and by an address, which is asked again where it fails.
func TestPurge(t *testing.T) {
	t.Parallel()
	if purge(nil, "", slog.New(slog.DiscardHandler)) != nil {
		t.Error("there is nobody to tell")
	}
	told := make(chan book.Snapshot, 3)
	tries := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var head book.Snapshot
		if err := json.NewDecoder(r.Body).Decode(&head); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %v", r.Method, r.Header, err)
		}
		told <- head
	}))
	defer web.Close()
	out := filepath.Join(t.TempDir(), "out")
	head := book.Snapshot{Seq: 7, Hash: "abc", Author: "me"}
	purge([]string{"sh", "-c", `echo "$AUSD_SNAPSHOT $AUSD_HASH" > ` + out}, web.URL, slog.New(slog.DiscardHandler))(t.Context(), head)
	if got := <-told; got.Seq != 7 || got.Hash != "abc" {
		t.Errorf("the address is told %+v", got)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "7 abc\n" {
		t.Errorf("the command is told %q, %v", text, err)
	}
	// What fails is logged, without the address, and keeps nobody.
	var log strings.Builder
	purge([]string{"false"}, "http://user:secret@127.0.0.1:1/secret", slog.New(slog.NewTextHandler(&log, nil)))(t.Context(), head)
	if said := log.String(); strings.Count(said, "msg=purge") != 2 || strings.Contains(said, "secret") {
		t.Errorf("it logs %s", said)
	}
}

// The partials of a manifest.json are offered to clients of the builds that it names, where they are.
func TestImportManifest(t *testing.T) {
	t.Parallel()
	p := startProcess(t, t.TempDir())
	defer p.kill(t)
	sum := func(s string) string { return strings.Repeat(s, 128) }
	entry := func(change func(*senbonzakura.Submission)) senbonzakura.Submission {
		s := senbonzakura.Submission{
			AppName: "Fox", Version: "92.0", Platform: "linux64", Locale: "de", PreviousVersion: "91.0",
			FromMAR: "https://dl.example/91.mar", FromSize: 1000, FromHash: sum("a"), FromBuildID: "20240101000000",
			ToMAR: "https://dl.example/92.mar", ToSize: 2000, ToHash: sum("B"), ToBuildID: "20240201000000",
			MAR: "ab.partial.mar", Size: 300, Hash: sum("c"),
		}
		if change != nil {
			change(&s)
		}
		return s
	}
	file := filepath.Join(t.TempDir(), "manifest.json")
	importing := func(list []senbonzakura.Submission, args ...string) (int, string) {
		t.Helper()
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return tool(append([]string{"import", "--server", p.url, file}, args...)...)
	}
	for want, change := range map[string]func(*senbonzakura.Submission){
		`mar: "ab.partial.mar" is no address`: nil,
		`platform: "amiga": it is not known`:  func(s *senbonzakura.Submission) { s.Platform = "amiga" },
		`appName, version, locale: each`:      func(s *senbonzakura.Submission) { s.Locale = "" },
		`from_hash, to_hash, hash: each is`:   func(s *senbonzakura.Submission) { s.Hash = "12" },
		`from_buildid, to_buildid: each`:      func(s *senbonzakura.Submission) { s.ToBuildID = "" },
		`size, to_size: each`:                 func(s *senbonzakura.Submission) { s.Size = 0 },
		`to_mar: "92.mar" is no address`:      func(s *senbonzakura.Submission) { s.MAR, s.ToMAR = "https://dl.example/p.mar", "92.mar" },
		`mar: it is missing`:                  func(s *senbonzakura.Submission) { s.MAR = "" },
	} {
		if code, said := importing([]senbonzakura.Submission{entry(change)}); code != 2 || !strings.Contains(said, "entry 1: "+want) {
			t.Errorf("%s: code %d: %s", want, code, said)
		}
	}
	list := []senbonzakura.Submission{entry(nil), entry(func(s *senbonzakura.Submission) {
		s.Locale, s.PreviousVersion, s.FromHash, s.FromBuildID, s.ToHash, s.Hash, s.MAR = "fr", "", sum("d"), "20231201000000", sum("e"), sum("f"), "https://other.example/fr.partial.mar"
	})}
	base := []string{"--base", "https://dl.example/partials"}
	if code, said := importing(list, append(base, "--dry-run")...); code != 0 || !strings.Contains(said, "2 releases, 2 partials\nupdates may come from: dl.example, other.example\n") ||
		!strings.Contains(said, "note: which version build 20231201000000 of Fox is") || strings.Contains(said, "published") {
		t.Errorf("dry run: code %d: %s", code, said)
	}
	for range 2 { // the second time nothing changes
		if code, said := importing(list, base...); code != 0 {
			t.Fatalf("code %d: %s", code, said)
		}
	}
	var done map[string]any
	rule := map[string]any{"comment": "rule", "operations": []any{map[string]any{"kind": "rule", "key": "1", "body": map[string]any{
		"rule_id": 1, "priority": 1, "backgroundRate": 100, "update_type": "minor", "product": "Fox", "mapping": "Fox-92.0-20240201000000",
	}}}}
	if code, err := p.call(t, "POST", "/admin/v1/changes", rule, &done); err != nil || code != 200 {
		t.Fatalf("%d %v: %v", code, err, done)
	}
	a, err := ask(t.Context(), newClient(), p.url+"/update/3/Fox/91.0/20240101000000/Linux_x86_64-gcc3/de/release/Linux/default/default/update.xml", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<patch type="complete" URL="https://dl.example/92.mar"`, `<patch type="partial" URL="https://dl.example/partials/ab.partial.mar" hashFunction="sha512" hashValue="` + sum("c") + `" size="300"/>`} {
		if !strings.Contains(string(a.Body), want) {
			t.Errorf("a client gets %s, want %s", a.Body, want)
		}
	}
}
