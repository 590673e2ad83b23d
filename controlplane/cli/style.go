package cli

// style colours text, or leaves it alone. What a colour says is always in the
// words, too.
type style struct{ on bool }

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string  { return s.paint("32", text) }
func (s style) warn(text string) string  { return s.paint("33", text) }
func (s style) bad(text string) string   { return s.paint("31", text) }
func (s style) dim(text string) string   { return s.paint("2", text) }
func (s style) title(text string) string { return s.paint("1", text) }

// state colours a word by what it means for the reader.
func (s style) state(word string) string {
	switch word {
	case "closed", "synced", "ok", "resolved":
		return s.good(word)
	case "open", "rejected", "exhausted", "stale", "disconnected", "firing", "page":
		return s.bad(word)
	case "half-open", "burning", "insufficient-data", "unknown", "pending", "ticket":
		return s.warn(word)
	}
	return word
}
