package policy

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the same time zones on every machine

	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
)

// flaw is what is wrong with a value.
type flaw struct{ code, message, hint string }

// A format checks a text and returns its canonical spelling.
type format func(string) (string, *flaw)

// formats are named by the `policy:"format=…"` tags of the types.
var formats = map[string]format{
	"label":       labelFormat,
	"host":        hostFormat,
	"dnsname":     dnsNameFormat,
	"ip":          ipFormat,
	"path":        pathFormat,
	"prefix":      prefixFormat,
	"template":    templateFormat,
	"regex":       regexFormat,
	"header":      headerFormat,
	"headervalue": headerValueFormat,
	"method":      methodFormat,
	"token":       tokenFormat,
	"metric":      metricFormat,
	"url":         urlFormat,
	"timeofday":   timeOfDayFormat,
	"timezone":    timezoneFormat,
}

const (
	lowerAlnum   = "abcdefghijklmnopqrstuvwxyz0123456789"
	maxPathBytes = 1024
	maxRegex     = 512
)

func labelFormat(s string) (string, *flaw) {
	ok := s != "" && len(s) <= 63 && strings.Trim(s, lowerAlnum+"-") == "" && s[0] != '-' && s[len(s)-1] != '-'
	if !ok {
		return s, &flaw{diag.BadName, fmt.Sprintf("%q is not a name: at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends", clip(s)), suggestLabel(s)}
	}
	return s, nil
}

func suggestLabel(s string) string {
	fixed := strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune(lowerAlnum, r) {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
	if fixed == "" || len(fixed) > 63 {
		return ""
	}
	return fmt.Sprintf("write %s", fixed)
}

func hostFormat(s string) (string, *flaw) {
	if s == "*" {
		return s, nil
	}
	if strings.Contains(s, "*") {
		return s, &flaw{diag.BadHost, fmt.Sprintf("%q has a wildcard: only \"*\" alone is one, for any host", clip(s)), "list the hosts"}
	}
	if host, port, ok := strings.Cut(s, ":"); ok && port != "" && strings.Trim(port, "0123456789") == "" {
		return s, &flaw{diag.BadHost, fmt.Sprintf("%q has a port, which is ignored", clip(s)), "write " + host}
	}
	return dnsNameFormat(s)
}

func dnsNameFormat(s string) (string, *flaw) {
	bad := func(hint string) (string, *flaw) {
		return s, &flaw{diag.BadHost, fmt.Sprintf("%q is not a host name", clip(s)), hint}
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return bad("write " + host)
	}
	if lower := strings.ToLower(s); lower != s {
		return bad("write " + lower)
	}
	if s == "" || len(s) > 253 {
		return bad("")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, lowerAlnum+"-_") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return bad("")
		}
	}
	return s, nil
}

func ipFormat(s string) (string, *flaw) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		hint := ""
		if _, bad := dnsNameFormat(s); bad == nil {
			hint = "for a name, use dns: {name: " + s + ", port: …}"
			if s == "localhost" {
				hint = "write 127.0.0.1"
			}
		}
		return s, &flaw{diag.BadAddress, fmt.Sprintf("%q is not an IP address", clip(s)), hint}
	}
	return addr.String(), nil
}

func pathFormat(s string) (string, *flaw) {
	s, bad := plainPath(s)
	if normalized, _, ok := ir.NormalizePath(s); bad == nil && (!ok || normalized != s) {
		return s, &flaw{diag.BadPath, fmt.Sprintf("%q is never seen: the router normalises it", clip(s)), "write " + clip(normalized)}
	}
	return s, bad
}

func plainPath(s string) (string, *flaw) {
	bad := func(why, hint string) (string, *flaw) {
		return s, &flaw{diag.BadPath, fmt.Sprintf("%q %s", clip(s), why), hint}
	}
	switch {
	case !strings.HasPrefix(s, "/"):
		return bad("does not start with /", "write /"+clip(s))
	case len(s) > maxPathBytes:
		return bad(fmt.Sprintf("is longer than %d bytes", maxPathBytes), "")
	case strings.ContainsAny(s, "?#"):
		return bad("has a query or fragment: only the path is compared", "write "+clip(s[:strings.IndexAny(s, "?#")]))
	case strings.Contains(s, "//"):
		return bad("has an empty segment, which the router merges away", "")
	}
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f || b == '\\' {
			return bad("has a character that a path cannot have; percent-encode it", "")
		}
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return bad("has a "+segment+" segment, which the router resolves", "")
		}
	}
	return s, nil
}

func prefixFormat(s string) (string, *flaw) {
	s, bad := pathFormat(s)
	if bad == nil && s != "/" && strings.HasSuffix(s, "/") {
		return s, &flaw{diag.BadPath, fmt.Sprintf("%q ends with /: a prefix takes whole segments anyway", clip(s)), "write " + clip(strings.TrimRight(s, "/"))}
	}
	return s, bad
}

func templateFormat(s string) (string, *flaw) {
	s, bad := plainPath(s)
	if bad != nil {
		return s, bad
	}
	names := map[string]bool{}
	for segment := range strings.SplitSeq(s, "/") {
		if !strings.ContainsAny(segment, "{}*") {
			continue
		}
		name, open := strings.CutPrefix(segment, "{")
		name, closed := strings.CutSuffix(name, "}")
		word := strings.ToLower(name)
		switch {
		case !open || !closed || word == "" || len(word) > 32 || strings.Trim(word, lowerAlnum+"_") != "":
			return s, &flaw{diag.BadPath, fmt.Sprintf("%q: %q is not a whole segment {name}", clip(s), clip(segment)), "write /users/{id}"}
		case names[name]:
			return s, &flaw{diag.BadPath, fmt.Sprintf("%q names {%s} twice", clip(s), name), ""}
		}
		names[name] = true
	}
	if len(names) == 0 {
		return s, &flaw{diag.BadPath, fmt.Sprintf("%q has no {name}", clip(s)), "write exact: " + clip(s)}
	}
	// Placeholders are no characters of a path.
	bare := strings.NewReplacer("{", "", "}", "").Replace(s)
	if normalized, _, ok := ir.NormalizePath(bare); !ok || normalized != bare {
		return s, &flaw{diag.BadPath, fmt.Sprintf("%q never fits: the router normalises paths", clip(s)), ""}
	}
	return s, nil
}

func regexFormat(s string) (string, *flaw) {
	if s == "" || len(s) > maxRegex {
		return s, &flaw{diag.BadRegex, fmt.Sprintf("a regular expression has 1 to %d bytes", maxRegex), ""}
	}
	parsed, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return s, &flaw{diag.BadRegex, fmt.Sprintf("%q: %s", clip(s), strings.TrimPrefix(err.Error(), "error parsing regexp: ")), "the syntax is RE2: https://github.com/google/re2/wiki/Syntax"}
	}
	if cost := regexCost(parsed); cost > maxRegexCost {
		return s, &flaw{diag.RegexTooLarge, fmt.Sprintf("%q compiles to %d steps, at most %d are kept", clip(s), cost, maxRegexCost), "repeat less, or use prefix or template"}
	}
	return s, nil
}

// maxRegexCost keeps a compiled expression far below the 100,000 instructions at
// which the Envoy that we configure refuses it (and the push that holds it).
const maxRegexCost = 10_000

// regexCost is about the size of the program that Envoy's RE2 makes of an
// expression. It works on bytes: of a class, the ranges up to 0xFF count
// (measured in Envoy 1.40: 2 for a dot, 3 for [a-z0-9-], 7 for \pL).
func regexCost(parsed *syntax.Regexp) int {
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return math.MaxInt // it never has been
	}
	cost := 0
	for i := range prog.Inst {
		cost++
		for r := 0; r+1 < len(prog.Inst[i].Rune); r += 2 {
			if prog.Inst[i].Rune[r] <= math.MaxUint8 {
				cost++
			}
		}
	}
	return cost
}

const tokenChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lowerAlnum + "!#$%&'*+-.^_`|~"

// hopHeaders belong to one connection or to the framing; matching or setting
// them does not do what it seems to.
var hopHeaders = []string{"connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func headerFormat(s string) (string, *flaw) {
	bad := func(why string) (string, *flaw) {
		return s, &flaw{diag.BadHeader, fmt.Sprintf("%q %s", clip(s), why), ""}
	}
	if s == "" || len(s) > 128 || strings.Trim(s, tokenChars) != "" {
		return bad("is not a header name")
	}
	lower := strings.ToLower(s)
	if strings.HasPrefix(lower, "x-seawall-") || strings.HasPrefix(lower, "x-envoy-") {
		return bad("is dropped at the edge, so that clients cannot set it")
	}
	if slices.Contains(hopHeaders, lower) {
		return bad("belongs to the connection, not to the request")
	}
	return lower, nil
}

func headerValueFormat(s string) (string, *flaw) {
	for _, b := range []byte(s) {
		if (b < ' ' && b != '\t') || b == 0x7f {
			return s, &flaw{diag.BadHeader, "a header value cannot have control characters", ""}
		}
	}
	if len(s) > 4096 {
		return s, &flaw{diag.BadHeader, "a header value has at most 4096 bytes here", ""}
	}
	return s, nil
}

func tokenFormat(s string) (string, *flaw) {
	if s == "" || len(s) > 64 || strings.Trim(s, tokenChars) != "" {
		return s, &flaw{diag.NotAllowed, fmt.Sprintf("%q is not a protocol name", clip(s)), "write websocket"}
	}
	return strings.ToLower(s), nil
}

func metricFormat(s string) (string, *flaw) {
	if s == "" || len(s) > 128 || strings.Trim(strings.ToLower(s), lowerAlnum+"_.-") != "" {
		return s, &flaw{diag.BadName, fmt.Sprintf("%q is not a metric name", clip(s)), ""}
	}
	return s, nil
}

func urlFormat(s string) (string, *flaw) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || len(s) > 2048 {
		// The text is not repeated: a webhook's URL often carries a secret.
		return s, &flaw{diag.BadURL, "not an absolute http or https URL without user information", "write http://127.0.0.1:9099/notify"}
	}
	return s, nil
}

func timeOfDayFormat(s string) (string, *flaw) {
	if _, err := time.Parse("15:04", s); err != nil || len(s) != 5 {
		return s, &flaw{diag.BadTime, fmt.Sprintf("%q is not a time of day", clip(s)), `write "09:00"`}
	}
	return s, nil
}

func timezoneFormat(s string) (string, *flaw) {
	_, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		return s, &flaw{diag.BadTime, fmt.Sprintf("%q is not an IANA time zone", clip(s)), "write UTC or Europe/Berlin"}
	}
	return s, nil
}

// clip keeps messages short whatever the file holds.
func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return s[:cut] + "…"
}
