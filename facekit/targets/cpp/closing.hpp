#undef FACEKIT_LANES
#undef FACEKIT_UNROLL
#undef FACEKIT_INLINE

}  // namespace @NAME@

// The first header that is included gives the short names; the others' are facekit::NAME::Detector.
#ifndef FACEKIT_DETECTOR
#define FACEKIT_DETECTOR
using Detector = @NAME@::Detector;
using Face = @NAME@::Face;
#endif

}  // namespace facekit

#endif  // @GUARD@
