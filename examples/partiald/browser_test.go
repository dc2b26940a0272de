package main

import (
	"crypto/sha512"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/senbonzakura/senbonzakura/examples/internal/webtest"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/config"
	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/testrelease"
)

// TestNewcomer is the way of somebody who has two complete updates and a browser: log in, choose the files, watch, and
// download a partial that turns the one into the other.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	b := webtest.Open(t)
	dir := t.TempDir()
	from, to := testrelease.Complete(t, "152.0", ""), testrelease.Complete(t, "153.0", "")
	for name, data := range map[string][]byte{"from.mar": from, "to.mar": to} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "partiald.toml")
	const token = "a-token-that-nobody-guesses"
	if err := os.WriteFile(file, []byte("[auth]\nanonymous = 'none'\n[[auth.tokens]]\nname = 'newcomer'\nrole = 'submit'\nhash = '"+config.HashToken(token)+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "PARTIALD_CONFIG="+file)
	n.start()
	b.Do(b.Scheme("light"), chromedp.EmulateViewport(1280, 900), chromedp.Navigate("http://"+n.addr+"/"),
		chromedp.SendKeys("#token", token), chromedp.Click("main form button"))
	b.Until(`document.querySelector("#from_file") !== null`)
	b.Do(chromedp.SetUploadFiles("#from_file", []string{filepath.Join(dir, "from.mar")}),
		chromedp.SetUploadFiles("#to_file", []string{filepath.Join(dir, "to.mar")}), chromedp.Click("main form button"))
	b.Until(`document.querySelector("a[href^='/api/v1/partials/']") !== null`)
	b.Shot("newcomer")
	if got := webtest.Eval[string](b, `document.querySelector("h1").innerText`); got != "Firefox 152.0 → 153.0" {
		t.Errorf("the page is about %q", got)
	}
	path := webtest.Eval[string](b, `document.querySelector("a[href^='/api/v1/partials/']").getAttribute("href")`)
	res, data, err := n.request(http.MethodGet, path, nil, "Authorization", "Bearer "+token)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", res, err)
	}
	proves(t, from, data, to)
	if want := fmt.Sprintf("%x", sha512.Sum512(data)); webtest.Eval[string](b, `document.querySelector("dl.facts code").innerText`) != want {
		t.Error("the page has another hash than the download")
	}
}
