package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seawall-mesh/seawall/controlplane/api"
	"github.com/seawall-mesh/seawall/filter/problem"
)

const (
	defaultAdmin = "127.0.0.1:9900"

	defaultXDS       = "127.0.0.1:9901"
	defaultTelemetry = "127.0.0.1:9902"

	requestTimeout = 15 * time.Second
	maxAnswer      = 64 << 20 // bytes
	maxPages       = 200
	maxTokenBytes  = 8 << 10
)

// client asks a control plane's admin API.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// clientFlags are the flags of every command that asks a control plane.
type clientFlags struct {
	env       Env
	admin     string
	tokenFile string
	output    *outputFlag
}

func addClientFlags(cmd *cobra.Command, env Env) *clientFlags {
	f := &clientFlags{env: env, output: addOutput(cmd)}
	cmd.Flags().StringVar(&f.admin, "admin", defaultAdmin, "address or URL of the control plane")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the access token (else SEAWALL_TOKEN)")
	return f
}

func (f *clientFlags) client() (*client, error) {
	base, err := parseAdmin(f.admin)
	if err != nil {
		return nil, err
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	if token != "" && base.Scheme != "https" && !isLoopback(base.Hostname()) {
		return nil, usageErrorf("use an https:// URL with --admin", "a token is never sent in plain text to %s", base.Host)
	}
	return &client{base: base, token: token, http: &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		// A control plane does not redirect; following would carry the token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (f *clientFlags) token() (string, error) {
	token := f.env.Getenv("SEAWALL_TOKEN")
	if f.tokenFile != "" {
		file, err := os.Open(f.tokenFile)
		if err != nil {
			return "", &Error{Code: ExitUsage, Err: fmt.Errorf("token file: %w", err), Hint: "--token-file names a file that holds the token alone"}
		}
		defer file.Close()
		b, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
		if err != nil {
			return "", &Error{Code: ExitUsage, Err: fmt.Errorf("token file: %w", err), Hint: "--token-file names a file that holds the token alone"}
		}
		token = string(b)
	}
	token = strings.TrimSpace(token)
	if len(token) > maxTokenBytes || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usageErrorf("a token is one word of ASCII", "the token is malformed")
	}
	return token, nil
}

// parseAdmin takes an address (host:port) or a URL.
func parseAdmin(s string) (*url.URL, error) {
	const hint = "for example: --admin 127.0.0.1:9900 or --admin https://seawall.example"
	raw := s
	if !strings.Contains(s, "://") {
		if _, err := splitAddress(s); err != nil {
			return nil, usageErrorf(hint, "--admin %s: %w", s, err)
		}
		raw = "http://" + s
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usageErrorf(hint, "--admin %q is neither host:port nor an http(s) URL", s)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// get asks for one document.
func (c *client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	got, err := c.do(ctx, http.MethodGet, path, query, nil, nil)
	return got.body, err
}

// response is what the control plane answered.
type response struct {
	status int
	tag    string // its ETag, quotes included
	body   []byte // "" with 204
}

// do sends one request. A path's variable parts must be escaped. body, if not
// nil, is sent as JSON. The response's status is told for refusals, too.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body any, header http.Header) (response, error) {
	u := c.base.JoinPath("/api/v1" + path)
	u.RawQuery = query.Encode()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return response{}, fmt.Errorf("request %s: %w", path, err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return response{}, fmt.Errorf("request %s: %w", path, err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return response{}, c.unreachable(ctx, err)
	}
	defer res.Body.Close()
	got := response{status: res.StatusCode, tag: res.Header.Get("ETag")}
	if got.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		return got, c.unreachable(ctx, err)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case len(got.body) > maxAnswer:
		return got, c.stranger("its answer is larger than 64 MiB")
	case kind == problem.ContentType:
		return got, c.problem(res.StatusCode, got.body)
	case res.StatusCode == http.StatusNoContent && method != http.MethodGet:
	case res.StatusCode != http.StatusOK && (res.StatusCode != http.StatusCreated || method != http.MethodPost) || kind != "application/json":
		return got, c.stranger(fmt.Sprintf("status %d, content type %q", res.StatusCode, kind))
	}
	return got, nil
}

// list asks for all pages of a list.
func (c *client) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	if query == nil {
		query = url.Values{}
	}
	items := []json.RawMessage{}
	for range maxPages {
		body, err := c.get(ctx, path, query)
		if err != nil {
			return nil, err
		}
		var page api.List[json.RawMessage]
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, c.stranger("its list is malformed")
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
	return nil, c.stranger("its list does not end")
}

// decode reads items as T.
func decode[T any](items []json.RawMessage) ([]T, error) {
	out := make([]T, len(items))
	for i, raw := range items {
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			return nil, &Error{Code: ExitUnreachable, Err: fmt.Errorf("item %d of the control plane's answer: %w", i, err), Hint: versionHint}
		}
	}
	return out, nil
}

const versionHint = "is the control plane of another version? compare `seawall version` with `seawall status`"

func (c *client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	cause := err
	var op *net.OpError
	var ue *url.Error
	switch {
	case errors.As(err, &op):
		cause = op.Err
		if sys, ok := errors.AsType[*os.SyscallError](op.Err); ok {
			cause = sys.Err
		}
	case errors.As(err, &ue) && ue.Timeout():
		cause = fmt.Errorf("no answer within %s", requestTimeout)
	case errors.As(err, &ue):
		cause = ue.Err
	}
	return &Error{
		Code: ExitUnreachable, Err: fmt.Errorf("no control plane at %s: %w", c.base.Host, cause),
		Hint: "start one with `seawall up -p policies/`, or name another with --admin",
	}
}

func (c *client) stranger(what string) error {
	return &Error{
		Code: ExitUnreachable, Err: fmt.Errorf("%s does not answer like a Seawall control plane: %s", c.base.Host, what),
		Hint: "name the admin address with --admin; it is 127.0.0.1:9900 unless `seawall up --admin` said otherwise",
	}
}

func (c *client) problem(status int, body []byte) error {
	p, err := problem.Parse(body)
	if err != nil {
		return c.stranger(fmt.Sprintf("status %d with a malformed problem document", status))
	}
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	e := &Error{Code: ExitFindings, Err: fmt.Errorf("%s answered %d: %s", c.base.Host, status, text)}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Code, e.Hint = ExitUnauthorised, "give a token with --token-file or SEAWALL_TOKEN, and use a name that the control plane knows"
	case http.StatusConflict, http.StatusPreconditionFailed:
		e.Code, e.Hint = ExitConflict, "somebody else changed it: look at it again, then repeat"
	case http.StatusNotFound:
		e.Hint = versionHint
	case http.StatusServiceUnavailable:
		e.Hint = "try again in a moment; the control plane's log has the cause"
	}
	return e
}

// printJSON prints a document from the API, indented.
func printJSON(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("indent the answer: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

// printList prints a complete list from the API.
func printList(w io.Writer, items []json.RawMessage) error {
	raw, err := json.Marshal(api.List[json.RawMessage]{Items: items})
	if err != nil {
		return fmt.Errorf("encode the list: %w", err)
	}
	return printJSON(w, raw)
}
