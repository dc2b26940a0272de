//go:build unix

package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/senbonzakura/senbonzakura/mar"
	"github.com/senbonzakura/senbonzakura/partial/updater"
)

// standIn is set in the environment of a process that plays the real updater.
const standIn = "VERIFY_STAND_IN"

func TestMain(m *testing.M) {
	if mode := os.Getenv(standIn); mode != "" {
		os.Exit(playUpdater(mode, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// playUpdater does what Gecko's updater does as far as this package is concerned: its arguments, its status, its end.
func playUpdater(mode string, args []string) int {
	if len(args) == 1 && args[0] == "--help" {
		if mode == "v2" {
			fmt.Println("Usage: updater patch-dir install-dir apply-to-dir [wait-pid]")
		} else {
			fmt.Println("Usage: updater arg-version patch-dir install-dir apply-to-dir which-invocation [wait-pid]")
		}
		return 1
	}
	if mode != "v2" {
		if len(args) != 6 || args[0] != "3" || args[4] != "first" {
			return 9
		}
		args = args[1:]
	} else if len(args) != 4 {
		return 9
	}
	patches, install := args[0], args[1]
	status := func(s string) { _ = os.WriteFile(filepath.Join(patches, "update.status"), []byte(s+"\n"), 0o600) }
	if mode == "silent" {
		return 3
	}
	status("applying")
	switch mode {
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		time.Sleep(time.Minute)
	case "hang":
		time.Sleep(time.Minute)
	}
	err := func() error {
		f, err := os.Open(filepath.Join(patches, "update.mar"))
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		r, err := mar.NewReader(f, info.Size(), nil)
		if err != nil {
			return err
		}
		root, err := os.OpenRoot(install)
		if err != nil {
			return err
		}
		defer root.Close()
		return updater.Apply(context.Background(), root, r, nil)
	}()
	var failed *updater.UpdateError
	switch {
	case errors.As(err, &failed):
		status(failed.Code.String())
		return 1
	case err != nil:
		fmt.Println(err)
		status("failed: 7")
		return 1
	}
	if mode == "wrong" {
		_ = os.WriteFile(filepath.Join(install, "application.ini"), []byte("wrong"), 0o600)
	}
	status("succeeded")
	if mode == "late" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		time.Sleep(time.Minute)
	}
	return 0
}

// The real updater runs on a sample and on every failure; where it comes to another end than ours, that is a finding.
func TestRealUpdater(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := func(mode string) string {
		name := filepath.Join(t.TempDir(), "updater")
		script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", standIn, mode, self)
		if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		return name
	}
	r := smallRelease(t, 1, 3, 1)
	r.fault = func(_, locale, _, patchType string) string {
		if locale == "l02" && patchType == "partial" {
			return "wrong-tree"
		}
		return ""
	}
	tests := []struct {
		mode   string
		result Result // of the sampled tests: those of l00
		code   Code
	}{
		{"good", Pass, ""},
		{"v2", Pass, ""},
		{"wrong", Fail, ApplierDisagrees},
		{"crash", Fail, UpdaterCrashed},
		{"late", Warn, UpdaterDied},
		{"hang", Fail, UpdaterCrashed},
		{"silent", Fail, UpdaterNotStarted},
		{"absent", Error, SetupTrouble},
	}
	for _, tt := range tests {
		o := r.options(t)
		o.Updater = &RealUpdater{Path: program(tt.mode), Timeout: time.Minute}
		switch tt.mode {
		case "hang":
			o.Updater.Timeout = 500 * time.Millisecond
		case "absent":
			o.Updater.Path = filepath.Join(t.TempDir(), "none")
		}
		lines := r.config()
		if tt.mode != "good" { // the other patch type is no different
			lines[0].PatchTypes = []string{"partial"}
		}
		report, err := Run(t.Context(), lines, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range report.Tests {
			proved := slices.Contains(test.Proved, "updater")
			switch {
			case test.Locale == "l02" && test.PatchType == "partial":
				if test.Result != Fail || test.Reasons[0].Code != TreeDiffers {
					t.Errorf("%s: the wrong tree is %s, %+v", tt.mode, test.Result, test.Reasons)
				}
				if agrees := tt.result == Pass || tt.mode == "late"; proved != agrees {
					t.Errorf("%s: the wrong tree: the real updater agrees: %v, want %v", tt.mode, proved, agrees)
				}
			case test.Locale == "l00":
				code := Code("")
				if len(test.Reasons) > 0 {
					code = test.Reasons[0].Code
				}
				if test.Result != tt.result || code != tt.code || proved != (tt.result == Pass || tt.result == Warn) {
					t.Errorf("%s: %v: %s %q, proved %v: %+v", tt.mode, test.Identity, test.Result, code, test.Proved, test.Reasons)
				}
			default:
				if test.Result != Pass || proved {
					t.Errorf("%s: %v is not in the sample: %s %+v", tt.mode, test.Identity, test.Result, test.Proved)
				}
			}
		}
	}
}
