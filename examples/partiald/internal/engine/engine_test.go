package engine_test

import (
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/job"
)

func TestLife(t *testing.T) {
	o := newOrigin(t)
	n := open(t, setting{dir: t.TempDir()})
	spec := o.spec(t, "de")
	s, created, err := n.Submit(t.Context(), spec, alice)
	if err != nil || !created || s.State.Final() {
		t.Fatalf("%+v, %v, %v", s, created, err)
	}
	s = n.wait(s.ID)
	if s.State != job.Done {
		t.Fatalf("%s: %v", s.State, s.Error)
	}
	o.check(t, spec, n.bytes(s.ID))
	for _, c := range s.Changes {
		t.Log(c.Seq, c.State, c.At, c.Server, c.Reason)
	}
	t.Logf("%+v", *s.Result)
}
