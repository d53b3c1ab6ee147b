// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/digihunch/korthweb/api/v1alpha1"
)

// options are those of Orthanc's configuration, or of a section of it, that may be set, each with what it may be.
type options map[string]shape

// shape is what the value of an option may be. That of a section has options.
type shape struct {
	want    string
	fits    func(value any) bool
	options options
}

// facilityOptions are what a facility's own file may set: how images are received, kept, found and shown. None names a
// path, a host, a script, a credential or a listener, or bounds the pod's memory and threads.
var facilityOptions = options{
	"AcceptedSopClasses":                 listOf(uids, 200),
	"AcceptedTransferSyntaxes":           listOf(uids, 200),
	"BuiltinDecoderTranscoderOrder":      oneOf("After", "Before", "Disabled"),
	"CaseSensitivePN":                    boolean,
	"CheckRevisions":                     boolean,
	"DefaultEncoding":                    oneOf("Ascii", "Utf8", "Latin1", "Latin2", "Latin3", "Latin4", "Latin5", "Cyrillic", "Windows1251", "Arabic", "Greek", "Hebrew", "Thai", "Japanese", "Chinese", "JapaneseKanji", "Korean", "SimplifiedChinese"),
	"DefaultPrivateCreator":              words,
	"DeflatedTransferSyntaxAccepted":     boolean,
	"DicomDefaultRetrieveMethod":         oneOf("C-MOVE", "C-GET"),
	"DicomEchoChecksFind":                boolean,
	"DicomLossyTranscodingQuality":       integer(1, 100),
	"DicomScpTimeout":                    integer(1, 3600),
	"DicomScuPreferredTransferSyntax":    uid,
	"DicomScuTimeout":                    integer(1, 3600),
	"Dictionary":                         mapping(`^[0-9A-Fa-f]{4},[0-9A-Fa-f]{2,4}$`, listOf(either(words, integer(0, 65535)), 5), 250),
	"ExtraMainDicomTags":                 mapping(`^(Patient|Study|Series|Instance)$`, listOf(dicomTag, 100), 4),
	"Gdcm":                               section(options{"RestrictTransferSyntaxes": listOf(uid, 100)}),
	"H265TransferSyntaxAccepted":         boolean,
	"HttpCompressionEnabled":             boolean,
	"IngestTranscoding":                  oneOf(losslessSyntaxes...),
	"IngestTranscodingOfCompressed":      boolean,
	"IngestTranscodingOfUncompressed":    boolean,
	"Jpeg2000TransferSyntaxAccepted":     boolean,
	"JpegLosslessTransferSyntaxAccepted": boolean,
	"JpegTransferSyntaxAccepted":         boolean,
	"JpipTransferSyntaxAccepted":         boolean,
	"LoadPrivateDictionary":              boolean,
	"MaximumPatientCount":                integer(0, 100_000_000),
	"MaximumPduLength":                   integer(4096, 131072),
	"MaximumStorageMode":                 oneOf("Reject"),
	"MaximumStorageSize":                 integer(0, 1_000_000_000),
	"Mpeg2TransferSyntaxAccepted":        boolean,
	"Mpeg4TransferSyntaxAccepted":        boolean,
	"OverwriteInstances":                 either(boolean, oneOf("Never", "Always", "IfChanged")),
	"QueryRetrieveSize":                  integer(1, 10_000),
	"RejectedSopClasses":                 listOf(uids, 200),
	"RleTransferSyntaxAccepted":          boolean,
	"StableAge":                          integer(1, 86_400),
	"StorageCommitmentReportsSize":       integer(1, 10_000),
	"StorageCompression":                 boolean,
	"StoreMD5ForAttachments":             boolean,
	"StrictAetComparison":                boolean,
	"SynchronousCMove":                   boolean,
	"TranscodeDicomProtocol":             boolean,
	"UnknownSopClassAccepted":            boolean,
	"UserMetadata":                       mapping(`^[A-Za-z][-A-Za-z0-9_]{0,63}$`, integer(1024, 65535), 250),
	"ZipUseUtf8":                         boolean,
	"DicomWeb": section(options{
		"EnableMetadataCache": boolean,
		"QidoCaseSensitive":   boolean,
		"SeriesMetadata":      oneOf("Full", "MainDicomTags", "Extrapolate"),
		"StudiesMetadata":     oneOf("Full", "MainDicomTags", "Extrapolate"),
	}),
	"OrthancExplorer2": section(options{
		"IsDefaultOrthancUI": boolean,
		"Theme":              oneOf("light", "dark"),
		"UiOptions": section(options{
			"AutoAddWildcardsToSearchFields":   boolean,
			"AvailableLabels":                  listOf(words, 250),
			"DateFormat":                       dateFormat,
			"EnableAddSeries":                  boolean,
			"EnableAnonymization":              boolean,
			"EnableDeleteResources":            boolean,
			"EnableDicomModalities":            boolean,
			"EnableDownloadDicomDir":           boolean,
			"EnableDownloadDicomFile":          boolean,
			"EnableDownloadZip":                boolean,
			"EnableEditLabels":                 boolean,
			"EnableLabelsCount":                boolean,
			"EnableModification":               boolean,
			"EnableMultiLabelsSearch":          boolean,
			"EnableReportQuickButton":          boolean,
			"EnableSendTo":                     boolean,
			"EnableSettings":                   boolean,
			"EnableStudyList":                  boolean,
			"EnableUpload":                     boolean,
			"EnableViewerQuickButton":          boolean,
			"MaxStudiesDisplayed":              integer(1, 1000),
			"PageLoadSize":                     integer(1, 1000),
			"PatientMainTags":                  listOf(dicomTag, 100),
			"SeriesMainTags":                   listOf(dicomTag, 100),
			"ShowOrthancName":                  boolean,
			"StudyListColumns":                 listOf(dicomTag, 50),
			"StudyListContentIfNoSearch":       oneOf("default-ordering", "most-recents", "empty"),
			"StudyListSearchAsYouTypeMinChars": integer(1, 64),
			"StudyListSearchMode":              oneOf("search-as-you-type", "search-button"),
			"StudyMainTags":                    listOf(dicomTag, 100),
		}),
	}),
	"StoneWebViewer": section(options{
		"DateFormat":                          dateFormat,
		"ShowInfoPanelAtStartup":              oneOf("Always", "Never", "User"),
		"ShowNotForDiagnosticUsageDisclaimer": boolean,
	}),
}

// classOptions are what a TenantClass, or a Tenant that is made by hand, may set beyond facilityOptions: all else that
// Orthanc 1.13 and these plugins read and that Korthweb does not set, nor undo what it sets.
var classOptions = extend(facilityOptions, options{
	"ConcurrentJobs":                      integer(1, 64),
	"DeidentifyLogs":                      boolean,
	"DeidentifyLogsDicomVersion":          oneOf("2008", "2017c", "2021b", "2023b"),
	"DicomParserCacheSize":                integer(0, 1_000_000),
	"DicomParserMemoryCapacity":           integer(1, 1_000_000),
	"DicomParserThreadsCount":             integer(1, 256),
	"DicomThreadsCount":                   integer(1, 256),
	"Gdcm":                                section(options{"Throttling": integer(1, 256)}),
	"HttpDescribeErrors":                  boolean,
	"HttpProxy":                           matching(`^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?:[0-9]{1,5}$`, "host:port, without a password"),
	"HttpRequestTimeout":                  integer(1, 3600),
	"HttpThreadsCount":                    integer(1, 1000),
	"HttpTimeout":                         integer(1, 3600),
	"HttpVerbose":                         boolean,
	"HttpsCACertificates":                 matching(`^(/etc/ssl/certs/[-A-Za-z0-9_]+\.(crt|pem))?$`, "a file in /etc/ssl/certs of the image"),
	"IngestTranscoding":                   uid,
	"JobsEngineThreadsCount":              section(options{"ResourceModification": integer(1, 64)}),
	"JobsHistorySize":                     integer(1, 10_000),
	"KeepAlive":                           boolean,
	"KeepAliveTimeout":                    integer(1, 3600),
	"Locale":                              matching(`^[A-Za-z0-9_.@-]{1,32}$`, "a locale, such as en_US.UTF-8"),
	"LogExportedResources":                boolean,
	"MallocArenaMax":                      integer(0, 256),
	"MaximumConcurrentDcmtkTranscoders":   integer(1, 256),
	"MaximumStorageCacheSize":             integer(0, 1_000_000),
	"MediaArchiveSize":                    integer(1, 100),
	"MetricsEnabled":                      boolean,
	"ReadOnly":                            boolean,
	"SequentialDicomReaderThreadsCount":   integer(1, 256),
	"SequentialDicomReaderWindowCapacity": integer(1, 1_000_000),
	"SequentialDicomReaderWindowSize":     integer(1, 10_000),
	"StorageLoaderThreadsCount":           integer(1, 256),
	"StorageMemoryCapacity":               integer(1, 1_000_000),
	"SyncStorageArea":                     boolean,
	"SynchronousZipStream":                boolean,
	"TcpNoDelay":                          boolean,
	"TranscoderCacheSize":                 integer(0, 1_000_000),
	"TranscoderMemoryCapacity":            integer(1, 1_000_000),
	"TranscoderThreadsCount":              integer(1, 256),
	"UserContentType":                     mapping(`^[A-Za-z][-A-Za-z0-9_]{0,63}$`, either(integer(1024, 65535), listOf(either(integer(1024, 65535), mimeType), 2)), 250),
	"Warnings":                            mapping(`^W00[1-9]_[A-Za-z]+$`, boolean, 20),
	"ZipLoaderThreads":                    integer(0, 64),
	"DicomWeb": section(options{
		"MetadataWorkerThreadsCount": integer(1, 64),
		"PublicRoot":                 matching(`^(/[-A-Za-z0-9_]+)+/$`, "a path that begins and ends with /"),
		"StowMaxInstances":           integer(1, 10_000),
		"StowMaxSize":                integer(1, 10_000),
	}),
})

// sectionPlugins are the plugins that the sections of a configuration are of. The image switches a plugin on by its
// section, so one is only for a plugin that spec.orthanc.plugins lists.
var sectionPlugins = map[string]v1alpha1.Plugin{
	"DicomWeb": v1alpha1.DICOMwebPlugin, "Gdcm": v1alpha1.GDCMPlugin,
	"OrthancExplorer2": v1alpha1.OrthancExplorer2Plugin, "StoneWebViewer": "stone-web-viewer",
}

// saidElsewhere is where a Tenant says what some of Orthanc's options say, for who looks for them.
var saidElsewhere = map[string]string{
	"Name": "it is spec.displayName", "DicomAet": "it is spec.orthanc.aeTitle", "DicomModalities": "they are spec.orthanc.modalities",
	"RegisteredUsers": "users are in the Secret that spec.orthanc.usersSecretRef names", "Plugins": "they are spec.orthanc.plugins",
	"StorageDirectory": "it is spec.orthanc.storage", "AwsS3Storage": "it is spec.orthanc.storage.s3", "PostgreSQL": "it is spec.postgres",
}

// losslessSyntaxes are the transfer syntaxes that keep an image as it is, uncompressed or not (DICOM PS3.5, section 10).
var losslessSyntaxes = []string{
	"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.57",
	"1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5",
}

var (
	boolean    = shape{want: "true or false", fits: func(value any) bool { _, ok := value.(bool); return ok }}
	uid        = matching(`^[0-9]+(\.[0-9]+)+$`, "a UID")
	uids       = matching(`^[0-9][0-9.*?]{0,63}$`, "a UID, with * for any characters and ? for one")
	dicomTag   = matching(`^[A-Za-z0-9,]{1,64}$`, "a DICOM tag")
	words      = matching(`^[\pL\pN _.,()-]{0,64}$`, "up to 64 letters, digits and spaces")
	mimeType   = matching(`^[a-z]+/[-a-z0-9.+]{1,64}$`, "a MIME type")
	dateFormat = matching(`^[yYMdDHhmsa/.: -]{1,32}$`, "a date's format")
)

func matching(pattern, want string) shape {
	re := regexp.MustCompile(pattern)
	return shape{want: want, fits: func(value any) bool { s, ok := value.(string); return ok && len(s) <= 256 && re.MatchString(s) }}
}

func oneOf(texts ...string) shape {
	return shape{want: strings.Join(texts, " or "), fits: func(value any) bool { s, ok := value.(string); return ok && slices.Contains(texts, s) }}
}

func integer(least, most float64) shape {
	return shape{want: fmt.Sprintf("a whole number from %.0f to %.0f", least, most), fits: func(value any) bool {
		n, ok := value.(float64)
		return ok && n == math.Trunc(n) && n >= least && n <= most
	}}
}

func either(a, b shape) shape {
	return shape{want: a.want + ", or " + b.want, fits: func(value any) bool { return a.fits(value) || b.fits(value) }}
}

func listOf(of shape, most int) shape {
	return shape{want: fmt.Sprintf("a list of at most %d, each %s", most, of.want), fits: func(value any) bool {
		items, ok := value.([]any)
		return ok && len(items) <= most && !slices.ContainsFunc(items, func(item any) bool { return !of.fits(item) })
	}}
}

func mapping(keys string, of shape, most int) shape {
	re := regexp.MustCompile(keys)
	return shape{want: fmt.Sprintf("an object of at most %d, with keys that match %s, each %s", most, keys, of.want), fits: func(value any) bool {
		m, ok := value.(map[string]any)
		for key, item := range m {
			ok = ok && re.MatchString(key) && of.fits(item)
		}
		return ok && len(m) <= most
	}}
}

func section(o options) shape { return shape{want: "an object", options: o} }

// extend returns options with more of them, also of the sections of both.
func extend(base, more options) options {
	out := maps.Clone(base)
	for key, s := range more {
		if was, ok := base[key]; ok && was.options != nil && s.options != nil {
			s = section(extend(was.options, s.options))
		}
		out[key] = s
	}
	return out
}

// judge returns an error for each option of a configuration or section that is not among these, or not as it must be.
// why says of an option that is not among them what to do, or "". A null is only for where it takes out what a class sets.
func (o options) judge(config map[string]any, at func(key string) *field.Path, null bool, why func(key string) string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(config)) {
		value := config[key]
		s, known := o[key]
		inner, isObject := value.(map[string]any)
		switch {
		case !known:
			reason := why(key)
			if near := nearest(key, slices.Collect(maps.Keys(o))); reason == "" && near != "" {
				reason = fmt.Sprintf("is no option that may be set here, did you mean %s?", near)
			} else if reason == "" {
				reason = "is no option that may be set here (docs/orthanc.md lists them): remove it"
			}
			errs = append(errs, field.Forbidden(at(key), reason))
		case s.options != nil && isObject:
			errs = append(errs, s.options.judge(inner, func(k string) *field.Path { return at(key).Child(k) }, null, func(k string) string { return why(key + "." + k) })...)
		case s.options == nil && (value == nil && null || s.fits(value)):
		default:
			errs = append(errs, field.Invalid(at(key), field.OmitValueType{}, "must be "+s.want))
		}
	}
	return errs
}

// has tells whether an option, such as DicomWeb.PublicRoot, is among these.
func (o options) has(option string) bool {
	key, rest, nested := strings.Cut(option, ".")
	s, ok := o[key]
	return ok && (!nested || s.options.has(rest))
}
