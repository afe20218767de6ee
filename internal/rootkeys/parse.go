// SPDX-License-Identifier: Apache-2.0

package rootkeys

import (
	"fmt"
	"strconv"
	"strings"
)

// Parse reads a Spec in one line, for a flag: members as in a configuration,
// name=value, with commas between them and between the registers of pcrs a plus,
// as in
//
//	kind=tpm,file=/etc/cretula/root/root.key,pcrs=0+7
//
// It does not check which of them there must be; [Spec.Check] does.
func Parse(text string) (Spec, error) {
	var s Spec
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return Spec{}, wrong("write it as kind=tpm,file=/etc/cretula/root/root.key", "%q is not NAME=VALUE", part)
		}
		if seen[name] {
			return Spec{}, wrong("name it once", "%s is there twice", name)
		}
		seen[name] = true
		if err := s.set(name, value); err != nil {
			return Spec{}, err
		}
	}
	return s, nil
}

func (s *Spec) texts() map[string]*string {
	return map[string]*string{
		"kind": &s.Kind, "file": &s.File, "epoch_file": &s.EpochFile, "passphrase_file": &s.PassphraseFile,
		"credential": &s.Credential, "device": &s.Device, "module": &s.Module, "token": &s.Token,
		"token_serial": &s.TokenSerial, "label": &s.Label, "pin_file": &s.PINFile, "key_arn": &s.KeyARN,
		"region": &s.Region, "endpoint": &s.Endpoint, "nsm_socket": &s.NSMSocket, "ca_file": &s.CAFile,
	}
}

func (s *Spec) set(name, value string) error {
	if text := s.texts()[name]; text != nil {
		*text = value
		return nil
	}
	var err error
	switch name {
	case "attested":
		s.Attested, err = strconv.ParseBool(value)
	case "pcrs":
		for index := range strings.SplitSeq(value, "+") {
			n, numberErr := strconv.Atoi(index)
			if numberErr != nil {
				err = fmt.Errorf("register %q is no number", index)
				break
			}
			s.PCRs = append(s.PCRs, n)
		}
	default:
		return wrong("the names are those of the section root_key of a configuration", "a root key has no %q", name)
	}
	if err != nil {
		return wrong("write pcrs=0+7, attested=true", "%s: %v", name, err)
	}
	return nil
}
