; The function made of the rule: numbers `first` to `last` of one row of arrays, one by one; LLVM
; makes vectors of them. No iteration reads what another writes, which the accesses' group promises
; to LLVM; the caller has checked that arrays do not overlap.

define internal void @each_number(ptr %scalars, ptr %row, i64 %first, i64 %last) {
entry:
$BEFORE
  %some = icmp slt i64 %first, %last
  br i1 %some, label %number, label %done
number:
  %i = phi i64 [ %first, %entry ], [ %i.next, %number ]
$READ
$WITHIN
$WRITE
  %i.next = add nsw i64 %i, 1
  %more = icmp slt i64 %i.next, %last
  br i1 %more, label %number, label %done, !llvm.loop !1
done:
  ret void
}

!0 = distinct !{}
!1 = distinct !{!1, !2}
!2 = !{!"llvm.loop.parallel_accesses", !0}
