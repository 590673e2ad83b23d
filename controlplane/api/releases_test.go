package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/controlplane/api/apitest"
	"github.com/seawall-mesh/seawall/controlplane/gate"
)

func TestTheGateAnswersWhatItIsAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, decision string
		code           gate.Code
	}{
		"frozen":                         {"payments", "deny", gate.FreezeReleases},
		"frozen for a canary":            {"payments?changeClass=canary", "deny", gate.FreezeReleases},
		"what a rollback passes over":    {"payments?changeClass=rollback", "allow", gate.FreezeReleases},
		"well":                           {"fraud", "allow", ""},
		"no such service":                {"nosuch", "unknown", gate.NoSuchService},
		"no such service, whatever else": {"nosuch?onUnknown=allow&changeClass=p0", "unknown", gate.NoSuchService},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(newServer(t, apitest.Incident(), nil), http.MethodGet, "/api/v1/can-deploy/"+c.path, nil)
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			var got api.Release
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			require.EqualValues(t, c.decision, got.Decision)
			require.NotEmpty(t, got.ID)
			if c.code == "" {
				require.Contains(t, w.Body.String(), `"reasons":[]`)
				return
			}
			require.Equal(t, c.code, got.Reasons[0].Code)
			require.NotEmpty(t, got.Reasons[0].Message)
		})
	}
	for query, detail := range map[string]string{
		"changeClass=urgent": "none of normal", "onUnknown=unknown": "neither allow nor deny", "onUnknown=": "neither", "wait=1m": "unknown query parameter",
	} {
		w := ask(newServer(t, apitest.Incident(), nil), http.MethodGet, "/api/v1/can-deploy/payments?"+query, nil)
		require.Contains(t, requireProblem(t, w, 400, "bad-query").Detail, detail)
	}
}

func TestOverridesOfTheGate(t *testing.T) {
	t.Parallel()
	const path = "/api/v1/can-deploy/payments/override"
	srv := newServer(t, apitest.Incident(), nil)
	w := write(srv, http.MethodPut, path, `{"decision":"allow","reason":"agreed in the incident call","for":"2h","by":"ada"}`)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	want := `{"service":"payments","decision":"allow","reason":"agreed in the incident call","by":"ada","since":"2026-03-14T15:09:26Z","until":"2026-03-14T17:09:26Z"}`
	require.JSONEq(t, want, w.Body.String())
	require.JSONEq(t, want, ask(srv, http.MethodGet, path, nil).Body.String())
	requireProblem(t, ask(srv, http.MethodGet, chargeOverride, nil), 404, "not-found")

	for body, detail := range map[string]string{
		`{"decision":"open","reason":"r","for":"1h"}`: "decision must be allow or deny", `{"state":"allow","reason":"r","for":"1h"}`: "state",
	} {
		require.Contains(t, requireProblem(t, write(srv, http.MethodPut, path, body), 400, "invalid-request").Detail, detail)
	}
	w = write(srv, http.MethodPut, "/api/v1/can-deploy/nosuch/override", `{"decision":"allow","reason":"r","for":"1h"}`)
	require.Contains(t, requireProblem(t, w, 404, "not-found").Detail, "nosuch")
}

func TestDeploymentsArePaged(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apitest.Incident(), nil)
	for i := range 5 {
		service := []string{"payments", "fraud"}[i%2]
		w := write(srv, http.MethodPost, "/api/v1/deployments", fmt.Sprintf(`{"service":%q,"version":"v%d"}`, service, i))
		require.Equal(t, http.StatusCreated, w.Code, w.Body)
	}
	w := write(srv, http.MethodPost, "/api/v1/deployments", `{"service":"nosuch","version":"v1"}`)
	requireProblem(t, w, 404, "not-found")
	versions, next := "", ""
	for {
		var page api.List[gate.Deployment]
		w := ask(srv, http.MethodGet, "/api/v1/deployments?service=payments&limit=2&cursor="+next, nil)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		for _, d := range page.Items {
			versions += d.Version
		}
		if next = page.Next; next == "" {
			break
		}
	}
	require.Equal(t, "v4v2v0", versions)
}
