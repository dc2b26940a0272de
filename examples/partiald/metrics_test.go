package main

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/senbonzakura/senbonzakura/cache"

	"github.com/senbonzakura/senbonzakura/examples/internal/cli"
)

// Labels are few and the same on all machines: what a tier is, not where. A value that memory does not take is no
// failure.
func TestCacheMetrics(t *testing.T) {
	t.Parallel()
	disk, err := cache.OpenDisk(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	memory, err := cache.NewMemory(&cache.MemoryOptions{Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	m := newMetrics(cli.Build{}, "one")
	layered := cache.NewLayered([]cache.Store{memory, disk}, &cache.LayeredOptions{Observe: m.cached})
	defer layered.Close()
	for name, size := range map[string]int{"small": 10, "large": 2 << 20} {
		for range 2 {
			entry, err := layered.GetOrFill(t.Context(), cache.NewKey(cache.Completes, name), func(_ context.Context, w io.Writer) error {
				_, err := w.Write(bytes.Repeat([]byte("x"), size))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			entry.Close()
			memory.Wait()
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if family.GetName() != "partiald_cache_events_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if metric.GetCounter().GetValue() == 0 { // there from the start
				continue
			}
			got = append(got, strings.Join([]string{labels["tier"], labels["kind"], labels["op"], labels["failed"]}, " "))
		}
	}
	slices.Sort(got)
	want := []string{
		" completes fill false", "disk completes hit false", "disk completes miss false", "memory completes hit false",
		"memory completes miss false", "memory completes put false", "memory completes too-large false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tier, kind, op, failed (-want +got):\n%s", diff)
	}
}

// What is in use of the heap can be watched: that number alone tells growth from garbage.
func TestLiveHeap(t *testing.T) {
	t.Parallel()
	runtime.GC()
	families, err := newMetrics(cli.Build{}, "one").registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "go_gc_heap_live_bytes" {
			if v := family.GetMetric()[0].GetGauge().GetValue(); v < 1<<10 {
				t.Errorf("%v bytes are in use", v)
			}
			return
		}
	}
	t.Error("there is no go_gc_heap_live_bytes")
}
