// SPDX-License-Identifier: Apache-2.0

package ledger

import "fmt"

// What says what was done to a row behind the ledger's back.
type What string

// The findings.
const (
	// Changed: content, version or MAC is not what was written.
	Changed What = "changed"
	// Moved: the row is another one's.
	Moved What = "moved"
	// Removed: the row is gone.
	Removed What = "removed"
	// RolledBack: the row is an earlier version of itself.
	RolledBack What = "rolled back"
	// Added: the row was not written through the ledger, or was deleted.
	Added What = "added"
	// RosterChanged: the part of the roster that would list the row cannot be
	// believed, so nothing is known about the row itself.
	RosterChanged What = "roster changed"
)

// A TamperedError names a row of the store that is not as the ledger left it.
type TamperedError struct {
	Table, ID string
	What      What
	// Detail says more in plain words; it may be empty. It holds no content.
	Detail string
}

func tampered(table, id string, what What, detail string) *TamperedError {
	return &TamperedError{Table: table, ID: id, What: what, Detail: detail}
}

// Error says what was done to which row.
func (e *TamperedError) Error() string {
	text := fmt.Sprintf("row %q of table %q was tampered with: %s", e.ID, e.Table, e.What)
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}
