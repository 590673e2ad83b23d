package policy

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// staticRules refuses a fallback whose body is not what it says it is: clients
// would fail on it at the worst moment.
func staticRules(o *object, path string, s *StaticFallback) {
	if s == nil || o.isBad(path) {
		return
	}
	if s.Body != "" && (s.Status == 204 || s.Status == 205 || s.Status == 304) {
		o.fail(diag.BodyContradicts, path+".body", "take the body out, or use status 200", "an answer with status %d has no body", s.Status)
		return
	}
	contentType, given := s.Headers["content-type"]
	if !given {
		return
	}
	at := path + ".headers"
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(kind, "/") {
		o.fail(diag.BodyContradicts, at, "write content-type: application/json", "content-type %q is not a media type", clip(contentType))
		return
	}
	if set := strings.ToLower(params["charset"]); set != "" && set != "utf-8" && !ascii(s.Body) {
		o.fail(diag.BodyContradicts, at, "write charset=utf-8", "the body is UTF-8, as the file, not %s", clip(set))
	}
	if problem := wellFormed(kind, s.Body); problem != nil {
		o.fail(diag.BodyContradicts, path+".body", "", "the body is not %s, as its content-type says: %s", kind, clip(problem.Error()))
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// wellFormed reads a body of a type that can be read.
func wellFormed(kind, body string) error {
	switch {
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		var v json.RawMessage
		if body == "" {
			return errors.New("it is empty")
		}
		return json.Unmarshal([]byte(body), &v)
	case kind == "application/xml" || kind == "text/xml" || strings.HasSuffix(kind, "+xml"):
		dec := xml.NewDecoder(strings.NewReader(body))
		for elements := 0; ; {
			token, err := dec.Token()
			switch {
			case errors.Is(err, io.EOF) && elements == 0:
				return errors.New("it has no element")
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if _, ok := token.(xml.StartElement); ok {
				elements++
			}
		}
	}
	return nil
}
