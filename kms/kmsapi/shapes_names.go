// SPDX-License-Identifier: Apache-2.0

package kmsapi

// CreateAliasInput is the input of CreateAlias.
type CreateAliasInput struct {
	AliasName   *string `json:",omitempty" kms:"required,len=1..256,pattern=AliasName"`
	TargetKeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// CreateAliasOutput is the output of CreateAlias, which has no members.
type CreateAliasOutput struct{}

// UpdateAliasInput is the input of UpdateAlias.
type UpdateAliasInput struct {
	AliasName   *string `json:",omitempty" kms:"required,len=1..256,pattern=AliasName"`
	TargetKeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// UpdateAliasOutput is the output of UpdateAlias, which has no members.
type UpdateAliasOutput struct{}

// DeleteAliasInput is the input of DeleteAlias.
type DeleteAliasInput struct {
	AliasName *string `json:",omitempty" kms:"required,len=1..256,pattern=AliasName"`
}

// DeleteAliasOutput is the output of DeleteAlias, which has no members.
type DeleteAliasOutput struct{}

// ListAliasesInput is the input of ListAliases.
type ListAliasesInput struct {
	KeyId  *string `json:",omitempty" kms:"len=1..2048"`
	Limit  *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// ListAliasesOutput is the output of ListAliases.
type ListAliasesOutput struct {
	Aliases    List[AliasListEntry]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// AliasListEntry is one alias in the output of ListAliases.
type AliasListEntry struct {
	AliasName       string
	AliasArn        string
	TargetKeyId     string     `json:",omitempty"`
	CreationDate    *Timestamp `json:",omitempty"`
	LastUpdatedDate *Timestamp `json:",omitempty"`
}

// TagResourceInput is the input of TagResource.
type TagResourceInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
	Tags  []Tag   `json:",omitempty" kms:"required"`
}

// TagResourceOutput is the output of TagResource, which has no members.
type TagResourceOutput struct{}

// UntagResourceInput is the input of UntagResource.
type UntagResourceInput struct {
	KeyId   *string  `json:",omitempty" kms:"required,len=1..2048"`
	TagKeys []string `json:",omitempty" kms:"required,items=1..128"`
}

// UntagResourceOutput is the output of UntagResource, which has no members.
type UntagResourceOutput struct{}

// ListResourceTagsInput is the input of ListResourceTags.
type ListResourceTagsInput struct {
	KeyId  *string `json:",omitempty" kms:"required,len=1..2048"`
	Limit  *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// ListResourceTagsOutput is the output of ListResourceTags.
type ListResourceTagsOutput struct {
	Tags       List[Tag]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}
