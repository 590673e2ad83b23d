package plugin

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendUUID(t *testing.T) {
	t.Parallel()
	require.Equal(t, "00000000-0000-4000-8000-000000000000", string(appendUUID(nil, 0, 0)))
	require.Equal(t, "ffffffff-ffff-4fff-bfff-ffffffffffff", string(appendUUID(nil, ^uint64(0), ^uint64(0))))
	require.Equal(t, "x01234567-89ab-4def-9876-543210fedcba", string(appendUUID([]byte("x"), 0x0123456789abcdef, 0x1876543210fedcba)))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	plan := testPlan()
	for i := range plan.Routes {
		if plan.Routes[i].Name == "pay/charge" {
			plan.Routes[i].KeyHeader = "idempotency-key"
		}
	}
	made := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for name, tc := range map[string]struct {
		route, method, key string
		sent, made         bool
	}{
		"POST":                    {route: "pay/charge", method: "POST", made: true},
		"PATCH":                   {route: "pay/charge", method: "PATCH", made: true},
		"a method nobody knows":   {route: "pay/charge", method: "BREW", made: true},
		"GET":                     {route: "pay/charge", method: "GET"},
		"DELETE":                  {route: "pay/charge", method: "DELETE"},
		"the client's own":        {route: "pay/charge", method: "POST", key: "mine", sent: true},
		"an empty one is none":    {route: "pay/charge", method: "POST", sent: true, made: true},
		"a route without":         {route: "pay/offers", method: "POST"},
		"a route nobody knows of": {route: "pay/later", method: "POST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newProxy(t).worker(plan)
			headers := map[string]string{headerMethod: tc.method}
			if tc.sent {
				headers["idempotency-key"] = tc.key
			}
			_, refused := w.start(tc.route, headers)
			require.Nil(t, refused)
			if tc.made {
				require.Regexp(t, made, w.sent["idempotency-key"])
			} else {
				require.Empty(t, w.sent)
			}
		})
	}
}

// Where no route makes keys, no header is looked at.
func TestAHealthyRequestPaysNothingForKeysAndTries(t *testing.T) {
	t.Parallel()
	w := workers(t, 1)[0]
	w.request("pay/charge", status(200))
	clear(w.calls)
	w.request("pay/charge", status(200))
	require.Zero(t, w.calls["header"])
	require.Zero(t, w.calls["setProperty"])
}

func TestKeysAreNotAlike(t *testing.T) {
	t.Parallel()
	plan := testPlan()
	plan.Routes[0].KeyHeader = "idempotency-key"
	w := newProxy(t).worker(plan)
	seen := map[string]bool{}
	for range 100 {
		w.start(plan.Routes[0].Name, map[string]string{headerMethod: "POST"})
		seen[w.sent["idempotency-key"]] = true
	}
	require.Len(t, seen, 100)
}
