// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors of [End].
var (
	// ErrUnknown is matched for a name that no release of the file has.
	ErrUnknown = errors.New("reference: the file has no release of this name")
	// ErrEnded is matched for a release that ends earlier already.
	ErrEnded = errors.New("reference: the release ends before that already")
)

// End returns the content of a file of reference values in which the release of
// that name is accepted until the given second (not_after) and no longer. An end is
// never moved to later. Everything else keeps its members and their order, not its
// white space. The error is [Parse]'s for a file that is refused, before or after, or
// matches [ErrUnknown] or [ErrEnded].
func End(file []byte, name string, at time.Time) ([]byte, error) {
	content, err := readContent(file)
	if err != nil {
		return nil, err
	}
	end := at.UTC().Truncate(time.Second)
	for i, raw := range content.Releases {
		var have struct {
			Name     string    `json:"name"`
			NotAfter time.Time `json:"not_after"`
		}
		if err := json.Unmarshal(raw, &have); err != nil {
			return nil, err
		}
		switch {
		case have.Name != name:
			continue
		case !have.NotAfter.IsZero() && have.NotAfter.Before(end):
			return nil, fmt.Errorf("%w: %q at %s", ErrEnded, name, have.NotAfter.UTC().Format(time.RFC3339))
		}
		if content.Releases[i], err = withEnd(raw, end); err != nil {
			return nil, err
		}
		return content.encode()
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
}

// withEnd returns the release with that not_after in the place of its own, or behind
// its name.
func withEnd(release json.RawMessage, end time.Time) (json.RawMessage, error) {
	notAfter := `"not_after":"` + end.Format(time.RFC3339) + `"`
	var members []string
	name, own := -1, -1
	dec := json.NewDecoder(bytes.NewReader(release))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		switch key {
		case "name":
			name = len(members)
		case "not_after":
			own = len(members)
		}
		members = append(members, fmt.Sprintf("%q:%s", key, value)) // of names that Parse knows
	}
	if own >= 0 {
		members[own] = notAfter
	} else {
		members = slices.Insert(members, name+1, notAfter)
	}
	return json.RawMessage("{" + strings.Join(members, ",") + "}"), nil
}
