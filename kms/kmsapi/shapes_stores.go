// SPDX-License-Identifier: Apache-2.0

package kmsapi

// CreateCustomKeyStoreInput is the input of CreateCustomKeyStore.
type CreateCustomKeyStoreInput struct {
	CustomKeyStoreName               *string                           `json:",omitempty" kms:"required,len=1..256"`
	CloudHsmClusterId                *string                           `json:",omitempty" kms:"len=19..24,pattern=CloudHsmClusterId"`
	TrustAnchorCertificate           *string                           `json:",omitempty" kms:"len=1..5000"`
	KeyStorePassword                 *string                           `json:",omitempty" kms:"len=7..32,sensitive"`
	CustomKeyStoreType               *string                           `json:",omitempty" kms:"enum=CustomKeyStoreType"`
	XksProxyUriEndpoint              *string                           `json:",omitempty" kms:"len=10..128,pattern=XksProxyUriEndpoint"`
	XksProxyUriPath                  *string                           `json:",omitempty" kms:"len=10..128,pattern=XksProxyUriPath"`
	XksProxyVpcEndpointServiceName   *string                           `json:",omitempty" kms:"len=20..64,pattern=XksProxyVpcEndpointServiceName"`
	XksProxyVpcEndpointServiceOwner  *string                           `json:",omitempty" kms:"len=12..12,pattern=AccountId"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `json:",omitempty"`
	XksProxyConnectivity             *string                           `json:",omitempty" kms:"enum=XksProxyConnectivityType"`
}

// CreateCustomKeyStoreOutput is the output of CreateCustomKeyStore.
type CreateCustomKeyStoreOutput struct {
	CustomKeyStoreId string `json:",omitempty"`
}

// XksProxyAuthenticationCredential is what an external key store knows this service by.
type XksProxyAuthenticationCredential struct {
	AccessKeyId        *string `json:",omitempty" kms:"required,len=20..30,pattern=XksProxyAuthenticationAccessKeyId,sensitive"`
	RawSecretAccessKey *string `json:",omitempty" kms:"required,len=43..64,pattern=XksProxyAuthenticationRawSecretAccessKey,sensitive"`
}

// UpdateCustomKeyStoreInput is the input of UpdateCustomKeyStore.
type UpdateCustomKeyStoreInput struct {
	CustomKeyStoreId                 *string                           `json:",omitempty" kms:"required,len=1..64"`
	NewCustomKeyStoreName            *string                           `json:",omitempty" kms:"len=1..256"`
	KeyStorePassword                 *string                           `json:",omitempty" kms:"len=7..32,sensitive"`
	CloudHsmClusterId                *string                           `json:",omitempty" kms:"len=19..24,pattern=CloudHsmClusterId"`
	XksProxyUriEndpoint              *string                           `json:",omitempty" kms:"len=10..128,pattern=XksProxyUriEndpoint"`
	XksProxyUriPath                  *string                           `json:",omitempty" kms:"len=10..128,pattern=XksProxyUriPath"`
	XksProxyVpcEndpointServiceName   *string                           `json:",omitempty" kms:"len=20..64,pattern=XksProxyVpcEndpointServiceName"`
	XksProxyVpcEndpointServiceOwner  *string                           `json:",omitempty" kms:"len=12..12,pattern=AccountId"`
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredential `json:",omitempty"`
	XksProxyConnectivity             *string                           `json:",omitempty" kms:"enum=XksProxyConnectivityType"`
}

// UpdateCustomKeyStoreOutput is the output of UpdateCustomKeyStore.
type UpdateCustomKeyStoreOutput struct{}

// ConnectCustomKeyStoreInput is the input of ConnectCustomKeyStore.
type ConnectCustomKeyStoreInput struct {
	CustomKeyStoreId *string `json:",omitempty" kms:"required,len=1..64"`
}

// ConnectCustomKeyStoreOutput is the output of ConnectCustomKeyStore.
type ConnectCustomKeyStoreOutput struct{}

// DisconnectCustomKeyStoreInput is the input of DisconnectCustomKeyStore.
type DisconnectCustomKeyStoreInput struct {
	CustomKeyStoreId *string `json:",omitempty" kms:"required,len=1..64"`
}

// DisconnectCustomKeyStoreOutput is the output of DisconnectCustomKeyStore.
type DisconnectCustomKeyStoreOutput struct{}

// DeleteCustomKeyStoreInput is the input of DeleteCustomKeyStore.
type DeleteCustomKeyStoreInput struct {
	CustomKeyStoreId *string `json:",omitempty" kms:"required,len=1..64"`
}

// DeleteCustomKeyStoreOutput is the output of DeleteCustomKeyStore.
type DeleteCustomKeyStoreOutput struct{}

// DescribeCustomKeyStoresInput is the input of DescribeCustomKeyStores.
type DescribeCustomKeyStoresInput struct {
	CustomKeyStoreId   *string `json:",omitempty" kms:"len=1..64"`
	CustomKeyStoreName *string `json:",omitempty" kms:"len=1..256"`
	Limit              *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker             *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// DescribeCustomKeyStoresOutput is the output of DescribeCustomKeyStores.
type DescribeCustomKeyStoresOutput struct {
	CustomKeyStores List[CustomKeyStoresListEntry]
	NextMarker      string `json:",omitempty"`
	Truncated       bool
}

// CustomKeyStoresListEntry is one custom key store in the output of
// DescribeCustomKeyStores.
type CustomKeyStoresListEntry struct {
	CustomKeyStoreId       string `json:",omitempty"`
	CustomKeyStoreName     string
	CloudHsmClusterId      string `json:",omitempty"`
	TrustAnchorCertificate string `json:",omitempty"`
	ConnectionState        string
	ConnectionErrorCode    string `json:",omitempty"`
	CreationDate           Timestamp
	CustomKeyStoreType     string
	XksProxyConfiguration  *XksProxyConfiguration `json:",omitempty"`
}

// XksProxyConfiguration tells how an external key store is reached.
type XksProxyConfiguration struct {
	Connectivity            string
	AccessKeyId             string
	UriEndpoint             string
	UriPath                 string
	VpcEndpointServiceName  string `json:",omitempty"`
	VpcEndpointServiceOwner string `json:",omitempty"`
}
