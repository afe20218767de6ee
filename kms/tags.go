// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// Limits of tags, and how many of them a page has.
const (
	maxTags         = 50
	defaultTagLimit = 50
)

// checkTags returns the tags of a key after put was put to those it has, ordered
// by their keys, or a TagException.
func checkTags(existing []keyTag, put []kmsapi.Tag) ([]keyTag, error) {
	tags := slices.Clone(existing)
	seen := map[string]bool{}
	for _, t := range put {
		name := *t.TagKey
		switch {
		case seen[name]:
			return nil, kmsapi.Errorf(kmsapi.TagRefused, "Duplicate tag keys")
		case strings.HasPrefix(strings.ToLower(name), "aws:"):
			return nil, kmsapi.Errorf(kmsapi.TagRefused, "Tags beginning with aws: are reserved")
		case strings.EqualFold(name, AttestedTag) && (name != AttestedTag || *t.TagValue != AttestedValue):
			return nil, kmsapi.Errorf(kmsapi.TagRefused, "The tag %s can have the value %s only", AttestedTag, AttestedValue)
		}
		seen[name] = true
		tags = slices.DeleteFunc(tags, func(old keyTag) bool { return old.Key == name })
		tags = append(tags, keyTag{name, *t.TagValue})
	}
	if len(tags) > maxTags {
		return nil, kmsapi.Errorf(kmsapi.TagRefused, "Too many tags")
	}
	slices.SortFunc(tags, func(a, b keyTag) int { return cmp.Compare(a.Key, b.Key) })
	return tags, nil
}

// tagResource adds tags to a key and replaces those with the same keys.
func (c *call) tagResource(k *key, in *kmsapi.TagResourceInput) (*kmsapi.TagResourceOutput, error) {
	return new(kmsapi.TagResourceOutput), c.changeKey(k, func(_ *ledger.Tx, record *keyRecord) (err error) {
		record.Tags, err = checkTags(record.Tags, in.Tags)
		return err
	})
}

// untagResource removes tags from a key. Keys that no tag has are no error.
func (c *call) untagResource(k *key, in *kmsapi.UntagResourceInput) (*kmsapi.UntagResourceOutput, error) {
	return new(kmsapi.UntagResourceOutput), c.changeKey(k, func(_ *ledger.Tx, record *keyRecord) error {
		record.Tags = slices.DeleteFunc(record.Tags, func(t keyTag) bool { return slices.Contains(in.TagKeys, t.Key) })
		return nil
	})
}

// listResourceTags lists the tags of a key, ordered by their keys.
func (c *call) listResourceTags(k *key, _ *kmsapi.ListResourceTagsInput) (*kmsapi.ListResourceTagsOutput, error) {
	values := map[string]*string{}
	var names []string
	for i, t := range k.Tags {
		names = append(names, t.Key)
		values[t.Key] = &k.Tags[i].Value
	}
	names, next, err := c.page(names, defaultTagLimit)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListResourceTagsOutput{NextMarker: next, Truncated: next != ""}
	for _, name := range names {
		out.Tags = append(out.Tags, kmsapi.Tag{TagKey: &name, TagValue: values[name]})
	}
	return out, nil
}
