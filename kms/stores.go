// SPDX-License-Identifier: Apache-2.0

package kms

import "github.com/cretula/cretula/kms/kmsapi"

// customKeyStore answers for the operations that make or change custom key
// stores, which this service does not have.
func customKeyStore(c *call) (any, error) {
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	return nil, unsupported("custom key stores")
}

// describeCustomKeyStores lists the custom key stores: there are none.
func (c *call) describeCustomKeyStores(in *kmsapi.DescribeCustomKeyStoresInput) (*kmsapi.DescribeCustomKeyStoresOutput, error) {
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreId != nil && in.CustomKeyStoreName != nil {
		return nil, kmsapi.Errorf(kmsapi.Validation, "You can specify either CustomKeyStoreId or CustomKeyStoreName, but not both.")
	}
	for _, name := range []*string{in.CustomKeyStoreId, in.CustomKeyStoreName} {
		if name != nil {
			return nil, noCustomKeyStore(*name)
		}
	}
	return new(kmsapi.DescribeCustomKeyStoresOutput), nil
}

func noCustomKeyStore(name string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.CustomKeyStoreNotFound, "Custom key store '%s' does not exist.", name)
}
