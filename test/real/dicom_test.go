// SPDX-License-Identifier: Apache-2.0

//go:build linux

package real

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// study is a DICOM study in files of its own, all of one series.
type study struct {
	uid       string
	dir       string
	instances []string // SOP instance UIDs, sorted
}

// file of an instance.
func (s study) file(uid string) string { return filepath.Join(s.dir, uid+".dcm") }

// newStudy makes a study of small secondary captures with UIDs that nobody else has.
func newStudy(t *testing.T, instances int) study {
	g := NewWithT(t)
	s := study{uid: newUID(t), dir: newDir(t)}
	series := newUID(t)
	for number := range instances {
		uid := newUID(t)
		s.instances = append(s.instances, uid)
		g.Expect(os.WriteFile(s.file(uid), secondaryCapture(s.uid, series, uid, number+1), 0o644)).To(Succeed())
	}
	slices.Sort(s.instances)
	return s
}

// newUID returns a UID made of a random UUID (DICOM PS3.5, B.2).
func newUID(t *testing.T) string {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return "2.25." + n.String()
}

const (
	secondaryCaptureClass = "1.2.840.10008.5.1.4.1.1.7"
	explicitLittleEndian  = "1.2.840.10008.1.2.1"
	edge                  = 16
	pixels                = edge * edge
)

// secondaryCapture returns a DICOM file (PS3.10) with a small grey image, whose pixels come last.
func secondaryCapture(studyUID, seriesUID, uid string, number int) []byte {
	var meta, data bytes.Buffer
	element(&meta, 0x0002, 0x0001, "OB", "\x00\x01")
	element(&meta, 0x0002, 0x0002, "UI", secondaryCaptureClass)
	element(&meta, 0x0002, 0x0003, "UI", uid)
	element(&meta, 0x0002, 0x0010, "UI", explicitLittleEndian)
	element(&meta, 0x0002, 0x0012, "UI", "2.25.1")

	element(&data, 0x0008, 0x0016, "UI", secondaryCaptureClass)
	element(&data, 0x0008, 0x0018, "UI", uid)
	element(&data, 0x0008, 0x0020, "DA", "20260102")
	element(&data, 0x0008, 0x0030, "TM", "030405")
	element(&data, 0x0008, 0x0050, "SH", "A1")
	element(&data, 0x0008, 0x0060, "CS", "OT")
	element(&data, 0x0008, 0x0064, "CS", "WSD")
	element(&data, 0x0008, 0x0090, "PN", "")
	element(&data, 0x0010, 0x0010, "PN", "Test^Patient")
	element(&data, 0x0010, 0x0020, "LO", "P1")
	element(&data, 0x0010, 0x0030, "DA", "19700101")
	element(&data, 0x0010, 0x0040, "CS", "O")
	element(&data, 0x0020, 0x000d, "UI", studyUID)
	element(&data, 0x0020, 0x000e, "UI", seriesUID)
	element(&data, 0x0020, 0x0010, "SH", "1")
	element(&data, 0x0020, 0x0011, "IS", "1")
	element(&data, 0x0020, 0x0013, "IS", strconv.Itoa(number))
	short := func(n uint16) string { return string(binary.LittleEndian.AppendUint16(nil, n)) }
	element(&data, 0x0028, 0x0002, "US", short(1))
	element(&data, 0x0028, 0x0004, "CS", "MONOCHROME2")
	element(&data, 0x0028, 0x0010, "US", short(edge))
	element(&data, 0x0028, 0x0011, "US", short(edge))
	element(&data, 0x0028, 0x0100, "US", short(8))
	element(&data, 0x0028, 0x0101, "US", short(8))
	element(&data, 0x0028, 0x0102, "US", short(7))
	element(&data, 0x0028, 0x0103, "US", short(0))
	element(&data, 0x7fe0, 0x0010, "OB", string(bytes.Repeat([]byte{byte(number)}, pixels)))

	var file bytes.Buffer
	file.Write(make([]byte, 128))
	file.WriteString("DICM")
	element(&file, 0x0002, 0x0000, "UL", string(binary.LittleEndian.AppendUint32(nil, uint32(meta.Len()))))
	file.Write(meta.Bytes())
	file.Write(data.Bytes())
	return file.Bytes()
}

// element appends a data element in explicit little endian (PS3.5, 7.1.2).
func element(b *bytes.Buffer, group, tag uint16, vr, value string) {
	if len(value)%2 == 1 {
		padding := " "
		if vr == "UI" {
			padding = "\x00"
		}
		value += padding
	}
	header := binary.LittleEndian.AppendUint16(nil, group)
	header = binary.LittleEndian.AppendUint16(header, tag)
	header = append(header, vr...)
	if vr == "OB" {
		header = append(header, 0, 0)
		header = binary.LittleEndian.AppendUint32(header, uint32(len(value)))
	} else {
		header = binary.LittleEndian.AppendUint16(header, uint16(len(value)))
	}
	b.Write(header)
	b.WriteString(value)
}

// caller is a DICOM application entity that talks to an Orthanc.
type caller struct {
	aeTitle string
	to      *orthanc
	called  string // AE title that it calls
}

// caller returns one that calls Orthanc by its right name.
func (o *orthanc) caller(aeTitle string) caller {
	return caller{aeTitle: aeTitle, to: o, called: string(o.tenant.Spec.Orthanc.AETitle)}
}

// run runs one of dcmtk's clients, with files or directories to send.
func (c caller) run(t *testing.T, program string, options []string, files ...string) error {
	return scu(t, program, slices.Concat(
		[]string{"-aet", c.aeTitle, "-aec", c.called}, options,
		[]string{"127.0.0.1", strconv.Itoa(c.to.dicomPort)}, files,
	)...)
}

// scu runs one of dcmtk's clients and returns an error with its output unless the server did what it was asked for.
func scu(t *testing.T, program string, args ...string) error {
	out, err := run(t, program, append([]string{"-v", "-ta", "20", "-td", "20"}, args...)...)
	if err == nil && program == "echoscu" && !strings.Contains(out, "Received Echo Response (Success)") {
		// It ends well also where the server aborts the association in place of an answer.
		err = errors.New("no success")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// echo sends a C-ECHO.
func (c caller) echo(t *testing.T) error { return c.run(t, "echoscu", nil) }

// store sends the instances of a study by C-STORE, in one association.
func (c caller) store(t *testing.T, s study) error {
	return c.run(t, "storescu", []string{"--scan-directories"}, s.dir)
}

// storeAll sends the instances of a study as a modality does: again, where an association ended early.
func (c caller) storeAll(t *testing.T, s study) error {
	var err error
	for range 3 {
		if err = c.store(t, s); err == nil {
			return nil
		}
		t.Logf("%s sends again: %v", c.aeTitle, err)
	}
	return err
}

// find asks for a study by C-FIND and returns how many were found.
func (c caller) find(t *testing.T, s study) (int, error) {
	dir := newDir(t)
	err := c.run(t, "findscu", slices.Concat([]string{"--extract", "--output-directory", dir}, s.query()))
	return len(stored(t, dir)), err
}

// get fetches a study by C-GET and returns how many instances arrived.
func (c caller) get(t *testing.T, s study) (int, error) {
	dir := newDir(t)
	err := c.run(t, "getscu", slices.Concat([]string{"--output-directory", dir}, s.query()))
	return len(stored(t, dir)), err
}

// move has Orthanc send a study to this caller, at a port on loopback, by C-MOVE, and returns how many instances
// arrived.
func (c caller) move(t *testing.T, s study, port int32) (int, error) {
	dir := newDir(t)
	err := c.run(t, "movescu", slices.Concat([]string{
		"--move", c.aeTitle, "--port", strconv.Itoa(int(port)), "--output-directory", dir,
	}, s.query()))
	return len(stored(t, dir)), err
}

// query are the options that name a study to dcmtk.
func (s study) query() []string {
	return []string{"--study", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=" + s.uid}
}
