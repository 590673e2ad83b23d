package host_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
	"github.com/seawall-mesh/seawall/testenv/hosttest"
	"github.com/seawall-mesh/seawall/testenv/scenario"
)

func TestTries(t *testing.T) {
	h, err := host.New(t.Context(), host.Config{Module: probe, Workers: 1, AttemptConfig: []byte(hosttest.AttemptConfig)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	hosttest.ExerciseTries(t, trying{h})
}

// trying is the wazero host with a router.
type trying struct{ h *host.Host }

func (t trying) Play(r host.Request, answers ...string) (host.Result, []host.Headers) {
	e := &triedStream{h: t.h}
	var router *scenario.Router
	r.Forwarded = func(s *host.Stream) {
		e.Stream = s
		router = scenario.Route(e, &scenario.Retry{Retries: hosttest.TryRetries, On: []string{"503", "reset"}, Backoff: 10 * time.Millisecond})
	}
	e.Stream = t.h.Worker(0).Request(r)
	if r.Cluster == "refused" {
		answers = []string{"refused"}
	}
	if err := router.Play(strings.Join(answers, ","), 0, t.h.Advance, nil); err != nil {
		panic(err)
	}
	router.End()
	return e.Done(), e.seen
}

// triedStream notes what the upstream sees.
type triedStream struct {
	*host.Stream
	h    *host.Host
	seen []host.Headers
}

func (e *triedStream) After(d time.Duration, run func()) { e.h.After(d, run) }
func (e *triedStream) Try() scenario.Try                 { return &seenTry{e.Stream.Try(), e} }

type seenTry struct {
	*host.Try
	e *triedStream
}

// Header is asked once for each try that reaches the upstream.
func (t *seenTry) Header(name string) string {
	t.e.seen = append(t.e.seen, t.Headers())
	return t.Headers().Get(name)
}

func (t *seenTry) Done(failure string) {
	if failure != "" { // it did not get there
		t.e.seen = t.e.seen[:len(t.e.seen)-1]
	}
	t.Try.Done(failure)
}
