// SPDX-License-Identifier: Apache-2.0

package policy

// ReplacePrincipals returns the text of a key policy with other principals under
// "AWS": what replace returns for each in place of what it was given. All else of
// the text, white space too, stays as it is. It fails as [Parse] does on what is no
// JSON; a text that is no policy is returned unchanged as far as it has no
// principals.
func ReplacePrincipals(doc []byte, replace func(string) string) ([]byte, error) {
	r := reader{doc: doc}
	root, err := r.document()
	if err != nil {
		return nil, err
	}
	var out []byte
	copied := 0
	for _, s := range root.member("Statement").list() {
		for _, name := range []string{"Principal", "NotPrincipal"} {
			for _, p := range s.member(name).member("AWS").list() {
				if p.kind != text {
					continue
				}
				if other := replace(p.text); other != p.text {
					after := reader{doc: doc, off: p.off}
					if _, err := after.string(); err != nil {
						return nil, err
					}
					out = appendString(append(out, doc[copied:p.off]...), other)
					copied = after.off
				}
			}
		}
	}
	return append(out, doc[copied:]...), nil
}

// member returns the value of a member, nil if there is none.
func (n *node) member(name string) *node {
	if n == nil {
		return nil
	}
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// list returns the items of an array, or what is no array as the only one.
func (n *node) list() []*node {
	switch {
	case n == nil:
		return nil
	case n.kind == array:
		return n.items
	}
	return []*node{n}
}
