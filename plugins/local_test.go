package plugins

import (
	"testing"

	"google.golang.org/grpc"
)

// A server in this process that is ended, as one is that does not answer for too long, is begun again; it ended the host.
func TestLocalAgain(t *testing.T) {
	t.Parallel()
	begun := 0
	p, err := Local("here", func(grpc.ServiceRegistrar) { begun++ })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		i, err := p.live(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i.kill()
		<-i.exited
	}
	if err := p.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if begun != 4 || p.Starts() != 4 {
		t.Errorf("begun %d times, %d by its own word, want 4", begun, p.Starts())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Ping(t.Context()); err == nil {
		t.Error("a server that was closed answers")
	}
}
