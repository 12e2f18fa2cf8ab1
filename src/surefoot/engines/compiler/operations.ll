
; Whether there is nothing to do: where a condition stands before the scalars and does not hold.
define internal i1 @idle(ptr %scalars) {
  $IDLE
}

define internal $TYPE @fabs($TYPE %x) alwaysinline {
  %y = call $TYPE @llvm.fabs.f$BITS($TYPE %x)
  ret $TYPE %y
}

define internal $TYPE @sqrt($TYPE %x) alwaysinline {
  %y = call $TYPE @llvm.sqrt.f$BITS($TYPE %x)
  ret $TYPE %y
}

declare $TYPE @llvm.fabs.f$BITS($TYPE)
declare $TYPE @llvm.sqrt.f$BITS($TYPE)
!0 = distinct !{}
!1 = distinct !{!1, !2$UNROLLED}
!2 = !{!"llvm.loop.parallel_accesses", !0}
!3 = !{!"llvm.loop.vectorize.width", i32 16}
!4 = !{!"llvm.loop.interleave.count", i32 2}
