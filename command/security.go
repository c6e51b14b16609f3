package command

import (
	"errors"
	"slices"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/signing"
)

// signed reports whether a serializer's name is that of signed messages.
func signed(serializer string) bool { return serializer == "auth" }

// keyring reads the keys of signed messages where a setting asks for the serializer auth; nil where none does, and
// then security_* have no effect, as in an app that never calls setup_security. What setup_security demands is
// demanded here: who signs and accepts what is not signed has gained nothing.
func keyring(s *settings) (protocol.Seal, error) {
	accept, task := s.texts("accept_content", ","), s.text("task_serializer", "")
	if !signed(task) && !signed(s.text("result_serializer", "")) && !signed(s.text("event_serializer", "")) && !slices.ContainsFunc(accept, signed) {
		return nil, nil
	}
	var errs []error
	if !signed(task) || len(accept) != 1 || !signed(accept[0]) {
		errs = append(errs, errors.New("signed messages need task_serializer = 'auth' and accept_content = ['auth'], and nothing else: "+
			"there is no point in signing messages if they are not verified"))
	}
	cfg := signing.Config{
		Key: s.text("security_key", ""), KeyPassword: s.text("security_key_password", ""), Certificate: s.text("security_certificate", ""),
		Store: s.text("security_cert_store", ""), Digest: s.text("security_digest", ""),
	}
	if cfg.Key == "" || cfg.Certificate == "" || cfg.Store == "" {
		errs = append(errs, errors.New("the serializer auth needs security_key, security_certificate and security_cert_store"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	k, err := signing.New(cfg)
	if err != nil { // not a nil *Keyring in an interface
		return nil, err
	}
	return k, nil
}
