package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

func TestMain(m *testing.M) {
	if helper() {
		return
	}
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 11, 24, 12, 0, 30, 0, time.UTC)

// env is an Ingest over a real store, with a clock of its own.
type env struct {
	t      *testing.T
	store  *sqlite.Store
	ingest *telemetry.Ingest
	heard  []string // "node/seq fresh", by OnBatch

	mu    sync.Mutex
	clock time.Time
}

func setup(t *testing.T) *env {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "seawall.db"))
}

func reopen(t *testing.T, path string) *env {
	t.Helper()
	e := &env{t: t, clock: noon}
	var err error
	e.store, err = sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	e.ingest = telemetry.New(telemetry.Config{
		Log: slog.New(slog.DiscardHandler), Store: e.store, Now: e.now,
		OnBatch: func(b contract.Batch, fresh bool) {
			e.heard = append(e.heard, fmt.Sprintf("%s/%d %v", b.Node, b.Seq, fresh))
		},
	})
	t.Cleanup(e.close)
	return e
}

func (e *env) close() {
	e.ingest.Close()
	require.NoError(e.t, e.store.Close())
}

func (e *env) now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clock
}

func (e *env) pass(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clock = e.clock.Add(d)
}

func (e *env) minute() int64 { return e.now().Unix() / 60 }

func (e *env) post(body []byte) *httptest.ResponseRecorder {
	return post(e.ingest.Handler(), http.MethodPost, "/v1/batches", "application/json", bytes.NewReader(body))
}

func post(h http.Handler, method, path, media string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// send posts a batch and wants it acknowledged.
func (e *env) send(b contract.Batch) {
	e.t.Helper()
	require.Equal(e.t, http.StatusNoContent, e.post(encode(e.t, b)).Code)
}

func encode(t testing.TB, b contract.Batch) []byte {
	t.Helper()
	body, err := json.Marshal(b)
	require.NoError(t, err)
	return body
}

func batch(vm byte, seq uint64, rows ...contract.Row) contract.Batch {
	return contract.Batch{
		Schema: contract.BatchSchema, Node: "edge-1", Boot: strings.Repeat("b", 32), VM: strings.Repeat(string(vm), 32),
		Seq: seq, AtNS: noon.UnixNano(), BootNS: noon.Add(-time.Hour).UnixNano(),
		Plan: strings.Repeat("0", 16), Filter: strings.Repeat("f", 64), Served: true, Rows: rows,
	}
}

func row(minute int64, counts ...contract.Count) contract.Row {
	return contract.Row{Minute: minute, Service: "payments", Route: "charge", Priority: "critical", Counts: counts}
}

func ok(n uint64) contract.Count { return contract.Count{Outcome: "ok", N: n} }

func TestHandlerAnswers(t *testing.T) {
	e := setup(t)
	good := encode(t, batch('a', 1, row(e.minute(), ok(1))))
	for name, tc := range map[string]struct {
		method, path, media string
		body                io.Reader
		want                int
	}{
		"a batch":                    {http.MethodPost, "/v1/batches", "application/json", bytes.NewReader(good), 204},
		"the same again":             {http.MethodPost, "/v1/batches", "application/json; charset=utf-8", bytes.NewReader(good), 204},
		"without a length":           {http.MethodPost, "/v1/batches", "application/json", io.MultiReader(bytes.NewReader(good)), 204},
		"another method":             {http.MethodGet, "/v1/batches", "application/json", nil, 405},
		"another path":               {http.MethodPost, "/v1/other", "application/json", nil, 404},
		"another type":               {http.MethodPost, "/v1/batches", "text/plain", bytes.NewReader(good), 415},
		"no type":                    {http.MethodPost, "/v1/batches", "", bytes.NewReader(good), 415},
		"no body":                    {http.MethodPost, "/v1/batches", "application/json", nil, 400},
		"no JSON":                    {http.MethodPost, "/v1/batches", "application/json", strings.NewReader("{"), 400},
		"another schema":             {http.MethodPost, "/v1/batches", "application/json", bytes.NewReader(bytes.Replace(good, []byte(`"schema":1`), []byte(`"schema":2`), 1)), 400},
		"too long":                   {http.MethodPost, "/v1/batches", "application/json", bytes.NewReader(make([]byte, 8<<20+1)), 413},
		"too long, without a length": {http.MethodPost, "/v1/batches", "application/json", io.MultiReader(bytes.NewReader(make([]byte, 8<<20+1))), 413},
		"cut off":                    {http.MethodPost, "/v1/batches", "application/json", io.MultiReader(bytes.NewReader(good[:9]), brokenReader{}), 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := post(e.ingest.Handler(), tc.method, tc.path, tc.media, tc.body)
			require.Equal(t, tc.want, w.Code, w.Body.String())
			if tc.want == 204 {
				require.Empty(t, w.Body.String())
				return
			}
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			var p struct {
				Type, Title, Detail string
				Status              int
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.Equal(t, tc.want, p.Status)
			require.NotEmpty(t, p.Detail)
			require.Equal(t, tc.want == 503, w.Header().Get("Retry-After") == "1")
		})
	}
	s := e.ingest.Stats()
	require.EqualValues(t, 1, s.Fresh)
	require.EqualValues(t, 2, s.Duplicate)
	require.EqualValues(t, 7, s.Rejected)
	require.EqualValues(t, 1, s.Unavailable)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestOnBatchTellsFreshFromSeen(t *testing.T) {
	e := setup(t)
	b := batch('a', 1, row(e.minute(), ok(1)))
	e.send(b)
	e.send(b)
	e.send(batch('a', 3))
	e.ingest.Close()
	require.Equal(t, []string{"edge-1/1 true", "edge-1/1 false", "edge-1/3 true"}, e.heard)
	require.EqualValues(t, 1, e.ingest.Stats().Missing)
}

func TestCloseStoresWhatWaitsAndRefusesTheRest(t *testing.T) {
	e := setup(t)
	var wg sync.WaitGroup
	codes := make([]int, 64)
	for n := range codes {
		wg.Go(func() {
			codes[n] = e.post(encode(t, batch('a', uint64(n+1), row(e.minute(), ok(1))))).Code
		})
	}
	e.ingest.Close()
	wg.Wait()
	stored := 0
	for _, code := range codes {
		if code == 204 {
			stored++
		} else {
			require.Equal(t, 503, code)
		}
	}
	require.EqualValues(t, stored, e.ingest.Stats().Fresh)
	require.Equal(t, 503, e.post(encode(t, batch('b', 1))).Code)
	rows, err := e.ingest.Traffic(t.Context(), time.Minute)
	require.NoError(t, err)
	if stored > 0 {
		require.EqualValues(t, stored, rows[0].Total)
	}
}

func TestTraffic(t *testing.T) {
	e := setup(t)
	now := e.minute()
	count := func(outcome string, status uint16, degraded bool, n uint64) contract.Count {
		return contract.Count{Outcome: outcome, Status: status, Degraded: degraded, N: n}
	}
	e.ingest.SetPolicy([]slo.Objective{
		{Name: "p95", Service: "payments", ObjectivePPM: 950_000, Window: time.Hour, LatencyThreshold: 5 * time.Millisecond},
		{Name: "p50", Service: "payments", ObjectivePPM: 500_000, Window: time.Hour, LatencyThreshold: 50 * time.Millisecond},
	}, []int64{1000, 5000, 50_000}, nil)
	r := row(now,
		count("ok", 0, false, 90), count("4xx", 404, false, 5), count("5xx", 503, false, 2), count("shed", 0, false, 3),
		count("breaker-open", 0, true, 4), count("aborted", 0, false, 6), count("injected", 503, false, 7),
		contract.Count{Outcome: "5xx", Status: 503, Synthetic: true, N: 8})
	r.Good = []contract.Bucket{{LeUS: 1000, N: 50}, {LeUS: 5000, N: 40}, {LeUS: -1, N: 5}}
	r.Bad = []contract.Bucket{{LeUS: -1, N: 900}}
	r.Attempts = 130
	other := row(now-5, ok(1))
	other.Route, other.Priority = "", "low"
	old := row(now-6, ok(1000))
	e.send(batch('a', 1, r, other, old))

	rows, err := e.ingest.Traffic(t.Context(), 5*time.Minute)
	require.NoError(t, err)
	text, err := json.Marshal(rows)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"service":"payments","route":"","priority":"low","total":1,"good":1,"bad":0,"slow":0,"shed":0,"degraded":0,"injected":0,"aborted":0,"synthetic":0,
		 "outcomes":{"ok":1},"would":{},"attempts":0,"p50":null,"p95":null,"p99":null},
		{"service":"payments","route":"charge","priority":"critical","total":104,"good":99,"bad":5,"slow":5,"shed":3,"degraded":4,"injected":7,"aborted":6,"synthetic":8,
		 "outcomes":{"ok":90,"4xx":5,"5xx":2,"shed":3,"breaker-open":4,"aborted":6,"injected":7},"would":{},"attempts":130,"p50":0.96,"p95":50,"p99":50}
	]`, string(text))

	rows, err = e.ingest.Traffic(t.Context(), 301*time.Second)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.EqualValues(t, 1104, rows[1].Total, "a window is rounded up to whole minutes")
}

func TestTrafficIsEmptyNotNull(t *testing.T) {
	rows, err := setup(t).ingest.Traffic(t.Context(), time.Minute)
	require.NoError(t, err)
	require.NotNil(t, rows)
	require.Empty(t, rows)
}

func TestSLOsFollowTheCounts(t *testing.T) {
	e := setup(t)
	o := slo.Objective{Name: "availability", Service: "payments", ObjectivePPM: 999_000, Window: 30 * 24 * time.Hour}
	status := func() slo.Status {
		all, err := e.ingest.SLOs(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	all, err := e.ingest.SLOs(t.Context())
	require.NoError(t, err)
	require.Equal(t, []slo.Status{}, all)

	e.ingest.SetPolicy([]slo.Objective{o}, nil, nil)
	require.Equal(t, slo.Stale, status().State, "never heard of a filter")

	e.send(batch('a', 1, row(e.minute(), ok(9_985_000), contract.Count{Outcome: "5xx", Status: 503, N: 15_000})))
	s := status()
	require.Equal(t, "99.850 % 150.0 % 5,000 over", fmt.Sprint(s.AttainedText(), " ", s.ConsumedText(), " ", s.RemainingText()))
	require.Equal(t, slo.Exhausted, s.State)

	e.send(batch('a', 2, row(e.minute(), ok(5))))
	require.EqualValues(t, 10_000_005, status().Total, "the current minute is never cached")
	e.send(batch('a', 3, row(e.minute()-500, ok(7))))
	require.EqualValues(t, 10_000_012, status().Total, "late counts are seen at once")

	e.pass(61 * time.Second)
	require.Equal(t, slo.Stale, status().State)
	require.EqualValues(t, 10_000_012, status().Total)

	e.pass(30*24*time.Hour - 61*time.Second)
	e.send(batch('a', 4))
	require.EqualValues(t, 10_000_005, status().Total, "the late minute has left the window")
	e.pass(time.Minute)
	e.send(batch('a', 5))
	require.Zero(t, status().Total, "and now the first one")
	require.Equal(t, slo.InsufficientData, status().State)
}

func TestLatencyObjectiveUsesNoDataFromBeforeItsThreshold(t *testing.T) {
	e := setup(t)
	objective := func(threshold time.Duration) []slo.Objective {
		return []slo.Objective{{Name: "p95", Service: "payments", ObjectivePPM: 950_000, Window: 7 * 24 * time.Hour, LatencyThreshold: threshold}}
	}
	// status waits for the store to have noted the bounds, which SetPolicy does
	// not wait for.
	expect := func(total, bad uint64) {
		t.Helper()
		var got slo.Status
		require.Eventually(t, func() bool {
			all, err := e.ingest.SLOs(context.Background())
			got = all[0]
			return err == nil && got.Total == total && got.Bad == bad
		}, 5*time.Second, time.Millisecond, "want %d of %d", bad, total)
	}
	slow := func(seq uint64, minute int64, le int64, n uint64) contract.Batch {
		r := row(minute, ok(n))
		r.Good = []contract.Bucket{{LeUS: le, N: n}}
		return batch('a', seq, r)
	}
	e.ingest.SetPolicy(objective(500*time.Millisecond), []int64{100_000, 500_000}, nil)
	e.send(slow(1, e.minute(), 500_000, 10))
	e.send(slow(2, e.minute(), -1, 3))
	expect(13, 3)

	// 300 ms lies inside the bucket of ten: these requests cannot be told apart.
	e.ingest.SetPolicy(objective(300*time.Millisecond), []int64{100_000, 300_000}, nil)
	expect(0, 0)
	e.pass(time.Minute)
	e.send(slow(3, e.minute(), 300_000, 4))
	e.send(slow(4, e.minute(), -1, 1))
	expect(5, 1)
	e.pass(time.Hour)
	e.send(slow(5, e.minute(), -1, 1))
	expect(6, 2)

	// A threshold that is no bound has no data, not wrong data.
	e.ingest.SetPolicy(objective(200*time.Millisecond), []int64{100_000, 300_000}, nil)
	expect(0, 0)
}

// TestWhoLeftTooLateIsSlow: a client that waited past the threshold and left has
// had a slow answer; one that left earlier says nothing.
func TestWhoLeftTooLateIsSlow(t *testing.T) {
	e := setup(t)
	e.ingest.SetPolicy([]slo.Objective{{Name: "p95", Service: "payments", ObjectivePPM: 950_000, Window: time.Hour, LatencyThreshold: 5 * time.Millisecond}},
		[]int64{1000, 5000, 50_000}, nil)
	r := row(e.minute(), ok(10), contract.Count{Outcome: "aborted", N: 7})
	r.Good = []contract.Bucket{{LeUS: 1000, N: 10}}
	r.Aborted = []contract.Bucket{{LeUS: 5000, N: 4}, {LeUS: 50_000, N: 2}, {LeUS: -1, N: 1}}
	e.send(batch('a', 1, r))
	require.Eventually(t, func() bool {
		all, err := e.ingest.SLOs(context.Background())
		return err == nil && all[0].Total == 13 && all[0].Bad == 3 && all[0].Aborted == 7
	}, 5*time.Second, time.Millisecond)
}

func TestARestartKeepsSLOsFresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	first := reopen(t, path)
	first.send(batch('a', 1, row(first.minute(), ok(2000))))
	second := reopen(t, path)
	second.ingest.SetPolicy([]slo.Objective{{Name: "x", Service: "payments", ObjectivePPM: 999_000, Window: time.Hour}}, nil, nil)
	require.Eventually(t, func() bool {
		all, err := second.ingest.SLOs(context.Background())
		return err == nil && all[0].State == slo.OK
	}, 5*time.Second, time.Millisecond)
}
