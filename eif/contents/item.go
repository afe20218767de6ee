// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/cretula/cretula/eif/eifbuild"
)

// An Item is an entry of a ramdisk as lists in JSON have it.
type Item struct {
	Name string `json:"name"`
	// NameBytes and LinkBytes (base64) are there where the text is not UTF-8.
	NameBytes []byte `json:"name_bytes,omitempty"`
	Type      string `json:"type"`
	// Mode is octal: permissions, set-id and sticky bits.
	Mode string `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Time is RFC 3339, in UTC.
	Time      string `json:"time"`
	Size      int64  `json:"size"`
	Link      string `json:"link,omitempty"`
	LinkBytes []byte `json:"link_bytes,omitempty"`
	// Major and Minor are the numbers of a device.
	Major *uint32 `json:"major,omitempty"`
	Minor *uint32 `json:"minor,omitempty"`
	// LeftOut says why an entry was not unpacked.
	LeftOut string `json:"left_out,omitempty"`
}

// NewItem describes an entry.
func NewItem(e *eifbuild.Entry) Item {
	item := Item{
		Name: e.Name, Type: e.Type.String(), Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID,
		Time: time.Unix(e.MTime, 0).UTC().Format(time.RFC3339), Size: e.Content.Size, Link: e.Link,
	}
	if !utf8.ValidString(e.Name) {
		item.NameBytes = []byte(e.Name)
	}
	if !utf8.ValidString(e.Link) {
		item.LinkBytes = []byte(e.Link)
	}
	if e.Type == eifbuild.CharDevice || e.Type == eifbuild.BlockDevice {
		item.Major, item.Minor = &e.Major, &e.Minor
	}
	return item
}
