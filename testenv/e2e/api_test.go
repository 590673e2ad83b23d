//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What outside tools rely on (DESIGN section 5), written down once more: these
// types must not follow a renaming in the product.
type (
	status struct {
		Version    string `json:"version"`
		PolicyHash string `json:"policyHash"`
		FilterHash string `json:"filterHash"`
		Services   int    `json:"services"`
		Nodes      struct {
			Connected int `json:"connected"`
			Synced    int `json:"synced"`
			Rejected  int `json:"rejected"`
		} `json:"nodes"`
	}
	node struct {
		ID         string    `json:"id"`
		Cluster    string    `json:"cluster"`
		Connected  bool      `json:"connected"`
		LastSeen   time.Time `json:"lastSeen"`
		PlanHash   string    `json:"planHash"`
		FilterHash string    `json:"filterHash"`
		Workers    []struct {
			VM       string    `json:"vm"`
			PlanHash string    `json:"planHash"`
			LastSeen time.Time `json:"lastSeen"`
		} `json:"workers"`
		Resources map[string]struct {
			State   string `json:"state"`
			Version string `json:"version"`
			Message string `json:"message"`
		} `json:"resources"`
	}
	breakerState struct {
		Service string     `json:"service"`
		Route   string     `json:"route"`
		Node    string     `json:"node"`
		State   string     `json:"state"`
		Forced  bool       `json:"forced"`
		Since   *time.Time `json:"since"`
		RetryAt *time.Time `json:"retryAt"`
		Cause   string     `json:"cause"`
	}
	poolState struct {
		Service  string `json:"service"`
		Pool     string `json:"pool"`
		Node     string `json:"node"`
		Held     int    `json:"held"`
		Waiting  int    `json:"waiting"`
		Limit    int    `json:"limit"`
		Granted  int    `json:"granted"`
		Full     int    `json:"full"`
		TimedOut int    `json:"timedOut"`
	}
	trafficRow struct {
		Service  string            `json:"service"`
		Route    string            `json:"route"`
		Priority string            `json:"priority"`
		Total    uint64            `json:"total"`
		Good     uint64            `json:"good"`
		Bad      uint64            `json:"bad"`
		Aborted  uint64            `json:"aborted"`
		Outcomes map[string]uint64 `json:"outcomes"`
	}
	objective struct {
		Name  string `json:"name"`
		Total uint64 `json:"total"`
		Bad   uint64 `json:"bad"`
		State string `json:"state"`
	}
	finding struct {
		Code     string `json:"code"`
		Severity string `json:"severity"`
		File     string `json:"file"`
		Line     int    `json:"line"`
		Message  string `json:"message"`
		Hint     string `json:"hint"`
	}
)

// tryGet reads a document of the API.
func (u *up) tryGet(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.admin+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s %s", path, resp.Status, raw)
	}
	return json.Unmarshal(raw, into)
}

func get[T any](u *up, path string) T {
	u.t.Helper()
	var v T
	require.NoError(u.t, u.tryGet(path, &v))
	return v
}

func list[T any](u *up, path string) []T {
	u.t.Helper()
	return get[struct{ Items []T }](u, path).Items
}

// node is the one node that `up` runs.
func (u *up) node() node {
	u.t.Helper()
	all := list[node](u, "nodes")
	require.Len(u.t, all, 1)
	return all[0]
}

// stamp says what a node runs: two are equal if all it runs is.
func (n node) stamp() string {
	s := n.PlanHash
	for _, kind := range slices.Sorted(maps.Keys(n.Resources)) {
		s += " " + n.Resources[kind].Version
	}
	return s
}

// breaker is the state of one breaker of the shop.
func (u *up) breaker(route string) breakerState {
	u.t.Helper()
	for _, b := range list[breakerState](u, "breakers") {
		if b.Service == "shop" && b.Route == route {
			return b
		}
	}
	u.t.Fatalf("the API has no breaker of shop/%s", route)
	return breakerState{}
}

func (u *up) awaitBreaker(route, state string) {
	u.t.Helper()
	eventually(u.t, soon, func() (bool, string) {
		b := u.breaker(route)
		return b.State == state, fmt.Sprintf("breaker of %s is %s, not %s", route, b.State, state)
	})
}

// pool is the state of one pool of the shop, as the API has it.
func (u *up) pool(name string) poolState {
	u.t.Helper()
	for _, p := range list[poolState](u, "pools") {
		if p.Service == "shop" && p.Pool == name {
			return p
		}
	}
	return poolState{}
}

func (u *up) awaitPool(name string, limit, held, waiting int) {
	u.t.Helper()
	eventually(u.t, soon, func() (bool, string) {
		p := u.pool(name)
		return p.Limit == limit && p.Held == held && p.Waiting == waiting,
			fmt.Sprintf("pool %s is %+v, not limit %d, held %d, waiting %d", name, p, limit, held, waiting)
	})
}

// awaitWaiting waits until so many requests wait for a permit. It asks Envoy,
// whose gauge is some ten milliseconds old; the API is a second behind.
func (u *up) awaitWaiting(pool string, n int) {
	u.t.Helper()
	eventually(u.t, soon, func() (bool, string) {
		now, err := u.stat("wasmcustom.seawall.pool_waiting.service=shop.pool=" + pool)
		return err == nil && now == n, fmt.Sprintf("%d wait, not %d (%v)", now, n, err)
	})
}

// stat is one of Envoy's own counters or gauges, by its whole name.
func (u *up) stat(name string) (int, error) {
	var state struct {
		Admin string `json:"admin"`
	}
	if err := json.Unmarshal([]byte(readFile(filepath.Join(u.cfg.data, "envoy", "state.json"))), &state); err != nil {
		return 0, err
	}
	resp, err := http.Get("http://" + state.Admin + "/stats?filter=" + url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	value, shown := strings.CutPrefix(string(raw), name+": ")
	if !shown {
		return 0, fmt.Errorf("envoy has no %s: %s", name, raw)
	}
	return strconv.Atoi(strings.TrimSpace(value))
}

// outcomes are the counts of traffic, by route and outcome: "charge 5xx".
func (u *up) outcomes() tally {
	u.t.Helper()
	counts := tally{}
	for _, row := range list[trafficRow](u, "traffic?window=15m") {
		for outcome, n := range row.Outcomes {
			counts[row.Route+" "+outcome] += int(n)
		}
	}
	return counts
}

// awaitOutcomes waits until traffic is what it should be, and then that it
// stays so: what was counted twice comes late.
func (u *up) awaitOutcomes(want tally) {
	u.t.Helper()
	eventually(u.t, soon, func() (bool, string) {
		got := u.outcomes()
		return got.equal(want), fmt.Sprintf("traffic is %v, not %v", got, want)
	})
	u.awaitBatches()
	require.Equal(u.t, want, u.outcomes())
}

// awaitBatches waits until each worker has sent two more batches.
func (u *up) awaitBatches() {
	u.t.Helper()
	for range 2 {
		since := time.Now()
		eventually(u.t, soon, func() (bool, string) {
			for _, w := range u.node().Workers {
				if w.LastSeen.Before(since) {
					return false, "worker " + w.VM + " is silent"
				}
			}
			return true, ""
		})
	}
}

// edit saves another policy and waits until the node runs it.
func (u *up) edit(text string) {
	u.t.Helper()
	before, policy := u.node().stamp(), get[status](u, "status").PolicyHash
	writePolicy(u.t, u.cfg.policies, text)
	eventually(u.t, soon, func() (bool, string) {
		st := get[status](u, "status")
		n := u.node()
		return st.PolicyHash != policy && n.stamp() != before && st.Nodes.Synced == 1 && n.PlanHash != "",
			fmt.Sprintf("policy %s (was %s), node %s (was %s), %d synced", st.PolicyHash, policy, n.stamp(), before, st.Nodes.Synced)
	})
}

// eventually polls until it holds; what it says last is the failure.
func eventually(t testing.TB, limit time.Duration, holds func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		ok, why := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, why)
		}
	}
}
