// Package jsonlite reads and writes the little JSON that the filter needs,
// without reflection.
//
// It exists because every JSON library at hand (gjson through its dependency
// pretty included) links encoding/json, reflect and fmt into the filter, which
// costs 1 MB of module and 27 MiB of memory in Envoy. It is a leaf: it imports
// strconv and unicode/utf8, nothing else.
package jsonlite
