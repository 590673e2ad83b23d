// Package seawall_test holds the import rules of the whole module.
package seawall_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const modulePath = "github.com/seawall-mesh/seawall"

// rule bans imports. Paths are relative to the module; a trailing "/..." takes
// in what is below. Only the packages' own code counts, not their tests.
type rule struct {
	from   string   // the packages that it binds
	goos   string   // "" = this machine; "wasip1" for what is compiled into the filter
	never  []string // banned, directly or through others
	except []string // allowed in spite of never
	why    string
}

var rules = []rule{
	{
		from: "filter/engine/...", goos: "wasip1", never: []string{"*"}, except: []string{"filter/engine/...", "math/bits", "unsafe", "internal/..."},
		why: "the decision core is values in, values out: it must give byte-identical traces native and in Wasm, so no clock, no I/O, no formatting",
	},
	{
		from: "filter", goos: "wasip1", never: []string{"fmt", "encoding/json", "github.com/goccy/go-yaml/...", "google.golang.org/protobuf/...", "net", "net/http", "log/slog"},
		why: "each of these costs the filter memory per VM or pulls in reflection (FACTS: encoding/json alone is 27 MiB)",
	},
	{
		from: "filter/...", goos: "wasip1", never: []string{"controlplane/...", "envoy/...", "testenv/..."},
		why: "the filter knows the control plane only by the contract",
	},
	{
		from: "filter/contract", never: []string{"filter/engine/...", "filter/plugin", "filter/abi", "controlplane/..."},
		why: "the contract is a leaf that both sides can import",
	},
	{
		from: "filter/problem", never: []string{"filter/engine/...", "filter/plugin", "filter/abi", "filter/contract", "controlplane/..."},
		why: "problem documents are a leaf: Go clients of any service import it",
	},
	{
		from: "filter/plugin", never: []string{"filter/abi"},
		why: "the plugin reaches the host through the interface that it owns, so that it runs natively too",
	},
	{
		from: "controlplane/...", never: []string{"filter/engine/...", "filter/plugin", "filter/abi"},
		why: "the control plane runs the filter only as the .wasm that ships; calling its Go code would be a second data plane",
	},
	{
		from: "controlplane/diag", never: []string{modulePath + "/..."}, except: []string{"controlplane/diag"},
		why: "diagnostics are a leaf",
	},
	{
		from: "controlplane/ir", never: []string{modulePath + "/..."}, except: []string{"controlplane/ir"},
		why: "the IR is plain structs between policy and xDS: neither side may leak through it",
	},
	{
		from: "controlplane/slo", never: []string{modulePath + "/..."}, except: []string{"controlplane/slo"},
		why: "budget arithmetic is pure",
	},
	{
		from: "controlplane/xds/...", never: []string{"controlplane/policy", "controlplane/compile", "controlplane/diag"},
		why: "xDS is made from the IR alone; data flows one way: policy, compile, ir, xDS",
	},
	{
		from: "controlplane/compile", never: []string{"controlplane/xds/...", "github.com/envoyproxy/..."},
		why: "compile ends at the IR; protos are translate's",
	},
	{
		from: "controlplane/telemetry", never: []string{"controlplane/store/...", "modernc.org/..."},
		why: "a domain package declares the store that it needs and never sees an implementation",
	},
	{
		from: "controlplane/override", never: []string{"controlplane/store/...", "controlplane/compile", "controlplane/xds/...", "modernc.org/..."},
		why: "overrides are kept and ended here; app stores them and puts them into force",
	},
	{
		from: "controlplane/budget", never: []string{"controlplane/store/...", "controlplane/compile", "controlplane/xds/...", "controlplane/api", "modernc.org/..."},
		why: "what is in force follows from objectives and their status alone; app stores it",
	},
	{
		from: "controlplane/gate", never: []string{"controlplane/store/...", "controlplane/budget", "controlplane/override", "controlplane/telemetry", "controlplane/api", "modernc.org/..."},
		why: "the release gate decides on facts that it is given",
	},
	{
		from: "controlplane/alert", never: []string{"controlplane/store/...", "controlplane/compile", "controlplane/xds/...", "controlplane/api", "modernc.org/..."},
		why: "alerts are judged and sent here; app shows it the other parts and stores what it keeps",
	},
	{
		from: "controlplane/audit", never: []string{modulePath + "/..."}, except: []string{"controlplane/audit"},
		why: "whatever can be changed by hand writes to the audit log, so it is a leaf",
	},
	{
		from: "controlplane/api", never: []string{"controlplane/store/...", "controlplane/xds/...", "controlplane/app", "modernc.org/..."},
		why: "the API shows what it is given; app wires it",
	},
	{
		from: "testenv/host", never: []string{modulePath + "/..."}, except: []string{"testenv/host"},
		why: "the host sees only .wasm bytes and the ABI",
	},
}

// TestImportRules holds DESIGN section 3. A failure names the rule's reason
// and the import that breaks it.
func TestImportRules(t *testing.T) {
	t.Parallel()
	graphs := map[string]map[string][]string{"": listImports(t, "", "./..."), "wasip1": listImports(t, "wasip1", "./filter/...")}
	bound := 0
	for _, r := range rules {
		graph := graphs[r.goos]
		for _, pkg := range sortedKeys(graph) {
			if !matches(r.from, pkg) {
				continue
			}
			bound++
			for _, dep := range reachable(graph, pkg) {
				if anyMatches(r.never, dep) && !anyMatches(r.except, dep) {
					t.Errorf("%s imports %s: %s", rel(pkg), rel(dep), r.why)
				}
			}
		}
	}
	require.Greater(t, bound, len(rules)/2, "the rules bind hardly any package: are their paths right?")
}

// listImports maps each package to its direct imports, over the whole closure.
func listImports(t *testing.T, goos, pattern string) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", pattern)
	if goos != "" {
		cmd.Env = append(cmd.Environ(), "GOOS="+goos, "GOARCH=wasm")
	}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	graph := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatal(err)
		}
		graph[p.ImportPath] = p.Imports
	}
}

func reachable(graph map[string][]string, from string) []string {
	seen := map[string]bool{from: true}
	queue := []string{from}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, dep := range graph[next] {
			if !seen[dep] {
				seen[dep] = true
				queue = append(queue, dep)
			}
		}
	}
	delete(seen, from)
	return sortedKeys(seen)
}

func matches(pattern, pkg string) bool {
	if pattern == "*" {
		return true
	}
	pkg = rel(pkg)
	pattern = rel(pattern)
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func anyMatches(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if p == modulePath+"/..." {
			if strings.HasPrefix(pkg, modulePath+"/") {
				return true
			}
			continue
		}
		if matches(p, pkg) {
			return true
		}
	}
	return false
}

func rel(pkg string) string { return strings.TrimPrefix(pkg, modulePath+"/") }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
