; The function made of the rule: numbers `first` to `last` of one row of arrays. It is the only one
; that reads and writes arrays. No iteration reads what another writes, which the accesses' group
; promises to LLVM; the caller has checked that arrays do not overlap.

define internal void @numbers(ptr %scalars, ptr %row, i64 %first, i64 %last) {
entry:
$BEFORE
  %some = icmp slt i64 %first, %last
  br i1 %some, label %number, label %done
number:
  %i = phi i64 [ %first, %entry ], [ %i.next, %number ]
$WITHIN
  %i.next = add nsw i64 %i, 1
  %more = icmp slt i64 %i.next, %last
  br i1 %more, label %number, label %done, !llvm.loop !1
done:
  ret void
}

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
!1 = distinct !{!1, !2}
!2 = !{!"llvm.loop.parallel_accesses", !0}

