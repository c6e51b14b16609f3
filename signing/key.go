package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the default of PKCS #5, of old key files
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// readKey reads a private key as OpenSSL writes it: PKCS #1 or PKCS #8, encrypted or not.
func readKey(file, password string) (*rsa.PrivateKey, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	der, err := decrypted(block, password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("%s: no key, or the wrong password", file)
		}
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: no key, or the wrong password", file)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a %T, signed messages need RSA", file, parsed)
	}
	return key, nil
}

func decrypted(block *pem.Block, password string) ([]byte, error) {
	//lint:ignore SA1019 the old form is weak; reading it is all we do, as Python does
	old := x509.IsEncryptedPEMBlock(block)
	switch {
	case block.Type == "PRIVATE KEY", block.Type == "RSA PRIVATE KEY" && !old:
		if password != "" {
			return nil, errors.New("security_key_password is given and the key is not encrypted")
		}
		return block.Bytes, nil
	case block.Type != "ENCRYPTED PRIVATE KEY" && !old:
		return nil, fmt.Errorf("holds a %s, want a private key", block.Type)
	case password == "":
		return nil, errors.New("is encrypted: security_key_password is needed")
	case old:
		//lint:ignore SA1019 as above
		der, err := x509.DecryptPEMBlock(block, []byte(password))
		if err != nil {
			return nil, errors.New("no key, or the wrong password")
		}
		return der, nil
	}
	return decryptPKCS8(block.Bytes, password)
}

// The structures of PKCS #8 (RFC 5958) and PKCS #5 (RFC 8018) that OpenSSL and Python write.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct{ Derivation, Scheme pkix.AlgorithmIdentifier }
	pkdf2 struct {
		Salt       []byte
		Iterations int
		Length     int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	hashes    = map[string]func() hash.Hash{
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New,
		"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	ciphers = map[string]int{ // AES in CBC mode: length of the key
		"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32,
	}
)

// maxIterations bounds what a key file may cost: seconds.
const maxIterations = 10_000_000

func decryptPKCS8(der []byte, password string) ([]byte, error) {
	unknown := errors.New("encrypted in a way that is not known here; want PBES2 with PBKDF2 and AES-CBC, which is what openssl pkcs8 -topk8 -v2 aes256 writes")
	var outer encryptedKey
	var params pbes2
	var kdf pkdf2
	var iv []byte
	if _, err := asn1.Unmarshal(der, &outer); err != nil || !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, unknown
	}
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil || !params.Derivation.Algorithm.Equal(oidPBKDF2) {
		return nil, unknown
	}
	if _, err := asn1.Unmarshal(params.Derivation.Parameters.FullBytes, &kdf); err != nil {
		return nil, unknown
	}
	prf := ""
	if len(kdf.PRF.Algorithm) > 0 {
		prf = kdf.PRF.Algorithm.String()
	}
	newHash, size := hashes[prf], ciphers[params.Scheme.Algorithm.String()]
	if _, err := asn1.Unmarshal(params.Scheme.Parameters.FullBytes, &iv); err != nil ||
		newHash == nil || size == 0 || len(iv) != aes.BlockSize || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, unknown
	}
	wrong := errors.New("no key, or the wrong password")
	if len(outer.Data) == 0 || len(outer.Data)%aes.BlockSize != 0 {
		return nil, wrong
	}
	key, err := pbkdf2.Key(newHash, password, kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(outer.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, outer.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, wrong
	}
	return plain[:len(plain)-pad], nil
}
