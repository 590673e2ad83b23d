package policy

import (
	"encoding/json"
	"fmt"
	"io"
)

// Encode writes the set as policy documents that Load reads back to a set of
// the same Hash, defaults filled in. What is written is for machines: comments
// and the user's spelling are gone.
func (s *Set) Encode(w io.Writer) error {
	enc := json.NewEncoder(w) // JSON is YAML
	enc.SetEscapeHTML(false)
	for _, o := range s.objects() {
		if _, err := io.WriteString(w, "---\n"); err != nil {
			return err
		}
		if err := enc.Encode(o); err != nil {
			return fmt.Errorf("encode policies: %w", err)
		}
	}
	return nil
}

func (s *Set) objects() []any {
	var out []any
	for _, o := range s.Edges {
		out = append(out, o)
	}
	for _, o := range s.Services {
		out = append(out, o)
	}
	for _, o := range s.Policies {
		out = append(out, o)
	}
	for _, o := range s.SLOs {
		out = append(out, o)
	}
	for _, o := range s.Experiments {
		out = append(out, o)
	}
	for _, o := range s.Flags {
		out = append(out, o)
	}
	return out
}
