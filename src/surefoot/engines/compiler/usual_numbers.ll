
; Flags that are the same for all numbers nearly always hold. Where they do, a loop runs that was
; compiled with that knowledge: on a processor without registers for flags, combining each with
; flags of the numbers takes as long as all the rest.

define internal void @numbers(ptr %scalars, ptr %row, i64 %first, i64 %last) {
$BEFORE
$USUAL
  br i1 %usual, label %usually, label %otherwise
usually:
  call void @usual_numbers(ptr %scalars, ptr %row, i64 %first, i64 %last)
  ret void
otherwise:
  call void @other_numbers(ptr %scalars, ptr %row, i64 %first, i64 %last)
  ret void
}

declare void @llvm.assume(i1)
