// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

// rawPack is a pack with one object, of which the type and the stated size are given.
func rawPack(objects uint32, typ byte, stated uint64, content []byte) []byte {
	var pack bytes.Buffer
	pack.WriteString("PACK")
	_ = binary.Write(&pack, binary.BigEndian, []uint32{2, objects})
	head := typ<<4 | byte(stated&0x0f)
	for stated >>= 4; stated > 0; stated >>= 7 {
		pack.WriteByte(head | 0x80)
		head = byte(stated & 0x7f)
	}
	pack.WriteByte(head)
	if typ == 7 {
		pack.Write(make([]byte, 20)) // the hash of the delta's base
	}
	z := zlib.NewWriter(&pack)
	_, _ = z.Write(content)
	_ = z.Close()
	return pack.Bytes()
}

// A server sends these on purpose: git itself writes no such pack.
func TestCheckPack(t *testing.T) {
	const blob, refDelta = 3, 7
	delta := binary.AppendUvarint(binary.AppendUvarint(nil, 1<<20), 64<<30)

	for name, c := range map[string]struct {
		pack    []byte
		tooMuch bool
		text    string // empty: it is fine
	}{
		"blob":          {pack: rawPack(1, blob, 5, []byte("hello"))},
		"delta":         {pack: rawPack(1, refDelta, 2, []byte{1, 1})},
		"blob bomb":     {rawPack(1, blob, 64<<30, []byte("hello")), true, "a git object of 68719476736 bytes"},
		"delta bomb":    {rawPack(1, refDelta, uint64(len(delta)), delta), true, "a git object of 68719476736 bytes"},
		"lying size":    {rawPack(1, blob, 5, make([]byte, 1<<20)), false, "exceeds declared size"},
		"empty delta":   {rawPack(1, refDelta, 0, nil), false, "delta"},
		"in all":        {rawPack(1, blob, 1001, make([]byte, 1001)), true, "unpack to more than 1000 bytes"},
		"many objects":  {rawPack(1<<31, blob, 5, []byte("hello")), true, "2147483648 git objects"},
		"fewer objects": {rawPack(2, blob, 5, []byte("hello")), false, "EOF"},
		"garbage":       {[]byte("<html>not a pack</html>"), false, "malformed"},
		"nothing":       {nil, false, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			name := filepath.Join(t.TempDir(), "pack")
			g.Expect(os.WriteFile(name, c.pack, 0o600)).To(Succeed())
			f, err := os.Open(name)
			g.Expect(err).NotTo(HaveOccurred())
			defer f.Close()

			err = checkPack(t.Context(), f, 1000)
			if c.text == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(c.text)))
			var tooMuch *tooMuchError
			g.Expect(errors.As(err, &tooMuch)).To(Equal(c.tooMuch))
		})
	}
}
