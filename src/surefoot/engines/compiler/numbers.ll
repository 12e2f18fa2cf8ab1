; The function made of the rule: numbers `first` to `last` of one row of arrays. It is the only one
; that reads and writes arrays. No iteration reads what another writes, which the accesses' group
; promises to LLVM; the caller has checked that arrays do not overlap.

define internal void @$NAME(ptr %scalars, ptr %row, i64 %first, i64 %last) {
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

