; Numbers `first` to `last` of one row: usual ones in vectors, the others and the rest one by one.

define internal void @numbers(ptr %scalars, ptr %row, i64 %first, i64 %last) {
entry:
$BEFORE
$USUAL
  br i1 %usual, label %vectors, label %otherwise
otherwise:
  call void @each_number(ptr %scalars, ptr %row, i64 %first, i64 %last)
  ret void
vectors:
  %i = phi i64 [ %first, %entry ], [ %next, %vectors ]
  %stopped = call i64 @usual_vectors(ptr %scalars, ptr %row, i64 %i, i64 %last)
  %beyond = add i64 %stopped, $UNUSUAL
  %next = call i64 @llvm.smin.i64(i64 %beyond, i64 %last)
  call void @each_number(ptr %scalars, ptr %row, i64 %stopped, i64 %next)
  %more = icmp slt i64 %next, %last
  br i1 %more, label %vectors, label %done
done:
  ret void
}
