package envoy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// The main thread, which answers the admin, stalls for up to 2.6 s while V8
	// compiles a module.
	adminTimeout  = 5 * time.Second
	adminMaxBytes = 64 << 20
)

// Admin talks to the admin address of one Envoy, on loopback.
type Admin struct {
	address string
	client  *http.Client
}

// NewAdmin returns a client for the admin at address (host:port). An address
// off loopback is an error: Envoy's admin has no authentication.
func NewAdmin(address string) (*Admin, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !ap.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("envoy admin address %q is not a loopback ip:port", address)
	}
	return &Admin{
		address: address,
		client: &http.Client{
			Timeout: adminTimeout,
			// No proxy from the environment, and no connection kept: an idle one
			// would count as downstream traffic while we wait for there to be none.
			Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Address is the admin's host:port.
func (a *Admin) Address() string { return a.address }

// Get returns the status and the body of a GET of path, such as
// "/config_dump?resource=dynamic_listeners".
func (a *Admin) Get(ctx context.Context, path string) (status int, body []byte, err error) {
	return a.do(ctx, http.MethodGet, path)
}

func (a *Admin) do(ctx context.Context, method, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.address+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("envoy admin %s: %w", path, err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return 0, nil, fmt.Errorf("envoy admin %s%s: %w", a.address, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, adminMaxBytes))
	if err != nil {
		return 0, nil, fmt.Errorf("envoy admin %s%s: %w", a.address, path, err)
	}
	return resp.StatusCode, body, nil
}

func (a *Admin) post(ctx context.Context, path string) error {
	status, body, err := a.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("envoy admin %s%s: status %d: %s", a.address, path, status, firstLine(body))
	}
	return nil
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(line[:min(len(line), 200)])
}

// Ready reports whether Envoy serves, and the state it names: LIVE, DRAINING,
// PRE_INITIALIZING or INITIALIZING. LIVE does not prove that a filter is in
// place.
func (a *Admin) Ready(ctx context.Context) (live bool, state string, err error) {
	status, body, err := a.do(ctx, http.MethodGet, "/ready")
	if err != nil {
		return false, "", err
	}
	return status == http.StatusOK, firstLine(body), nil
}

// Stats returns the counters and gauges whose full name matches the regular
// expression filter ("" = all).
func (a *Admin) Stats(ctx context.Context, filter string) (map[string]uint64, error) {
	path := "/stats"
	if filter != "" {
		path += "?filter=" + url.QueryEscape(filter)
	}
	status, body, err := a.do(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("envoy admin %s%s: status %d: %s", a.address, path, status, firstLine(body))
	}
	return parseStats(body), nil
}

// parseStats reads "name: value" lines. Histograms and text values are left
// out.
func parseStats(body []byte) map[string]uint64 {
	stats := map[string]uint64{}
	sc := bufio.NewScanner(bytes.NewReader(body))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		i := strings.LastIndex(sc.Text(), ": ")
		if i < 0 {
			continue
		}
		n, err := strconv.ParseUint(sc.Text()[i+2:], 10, 64)
		if err != nil {
			continue
		}
		stats[sc.Text()[:i]] = n
	}
	return stats
}

// Listener is one listener that Envoy has open.
type Listener struct {
	Name    string
	Address string // host:port
}

// Listeners returns the listeners that Envoy has, in its order.
func (a *Admin) Listeners(ctx context.Context) ([]Listener, error) {
	status, body, err := a.do(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("envoy admin %s/listeners: status %d: %s", a.address, status, firstLine(body))
	}
	var doc struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint32 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("envoy admin %s/listeners: %w", a.address, err)
	}
	out := make([]Listener, 0, len(doc.Statuses))
	for _, s := range doc.Statuses {
		sock := s.Address.Socket
		out = append(out, Listener{Name: s.Name, Address: net.JoinHostPort(sock.Address, strconv.FormatUint(uint64(sock.Port), 10))})
	}
	return out, nil
}

// NodeID is the node.id that this Envoy was started with.
func (a *Admin) NodeID(ctx context.Context) (string, error) {
	status, body, err := a.do(ctx, http.MethodGet, "/server_info")
	if err != nil {
		return "", err
	}
	var doc struct {
		Node struct {
			ID string `json:"id"`
		} `json:"node"`
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("envoy admin %s/server_info: status %d", a.address, status)
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", fmt.Errorf("envoy admin %s/server_info: %w", a.address, err)
	}
	return doc.Node.ID, nil
}

// FailHealthcheck makes /ready and the health check filter answer 503, so that
// a load balancer in front looks elsewhere.
func (a *Admin) FailHealthcheck(ctx context.Context) error { return a.post(ctx, "/healthcheck/fail") }

// DrainListeners closes all listeners: at once, or, if graceful, after the
// drain time, in which answers ask the clients to leave. Requests in flight go
// on either way.
func (a *Admin) DrainListeners(ctx context.Context, graceful bool) error {
	if graceful {
		return a.post(ctx, "/drain_listeners?graceful")
	}
	return a.post(ctx, "/drain_listeners")
}

// Quit ends Envoy at once, without draining.
func (a *Admin) Quit(ctx context.Context) error { return a.post(ctx, "/quitquitquit") }

// Traffic is what clients have open at Envoy, its admin left out.
type Traffic struct {
	Connections uint64
	Requests    uint64 // in flight
	Total       uint64 // requests since the start
}

// Traffic returns the downstream traffic over all listeners.
func (a *Admin) Traffic(ctx context.Context) (Traffic, error) {
	stats, err := a.Stats(ctx, `^http\..*\.downstream_(cx_active|rq_active|rq_total)$`)
	if err != nil {
		return Traffic{}, err
	}
	var t Traffic
	for name, n := range stats {
		switch {
		case strings.HasPrefix(name, "http.admin."):
		case strings.HasSuffix(name, ".downstream_cx_active"):
			t.Connections += n
		case strings.HasSuffix(name, ".downstream_rq_active"):
			t.Requests += n
		case strings.HasSuffix(name, ".downstream_rq_total"):
			t.Total += n
		}
	}
	return t, nil
}
