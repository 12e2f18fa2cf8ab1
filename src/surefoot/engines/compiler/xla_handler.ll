; How XLA calls a loop: a handler of its foreign function interface (xla/ffi/api/c_api.h). In C:
;
;   XLA_FFI_Error *handler(XLA_FFI_CallFrame *frame) {
;     if (frame->extension_start) {                   // XLA first queries the API version
;       metadata->api_version = API_VERSION; metadata->traits = 0; return NULL;
;     }
;     rows = frame->rets.size / OUTPUTS;
;     table = malloc(rows * WIDTH * sizeof(int64));
;     for (row = 0; row < rows; row++) {
;       table[row][ARRAYS] = size(args[1 + INPUTS * row]);
;       table[row][ARRAYS + 1] = the row's key, of two halves among the scalars; or 0
;       for (place = 0; place < INPUTS; place++)      // outputs that are not listed are the inputs'
;         table[row][place] = args[1 + INPUTS * row + place]->data;    // memory, by aliasing
;       for (place of NEW_OUTPUTS)
;         table[row][INPUTS + ...] = rets[OUTPUTS * row + place]->data;
;       // Nothing is written, and an error returned, where a buffer differs in size from the
;       // first of its row, or an output that should share its input's memory does not.
;     }
;     run(args[0]->data, table, rows, THREADS);
;     free(table);
;     return NULL;
;   }
;
; Fields are counted in integers of eight bytes. The layout is part of XLA's binary interface: within
; a major version of its API fields are only added behind the known ones.

define internal i64 @field(ptr %structure, i64 %number) {
  %at = getelementptr i64, ptr %structure, i64 %number
  %value = load i64, ptr %at
  ret i64 %value
}

define internal ptr @pointer(ptr %structure, i64 %number) {
  %at = getelementptr ptr, ptr %structure, i64 %number
  %value = load ptr, ptr %at
  ret ptr %value
}

define internal i64 @size(ptr %buffer) {
entry:
  %rank = call i64 @field(ptr %buffer, i64 4)
  %sizes = call ptr @pointer(ptr %buffer, i64 5)
  br label %axis
axis:
  %number = phi i64 [ 0, %entry ], [ %number.next, %axis.one ]
  %product = phi i64 [ 1, %entry ], [ %product.next, %axis.one ]
  %inside = icmp slt i64 %number, %rank
  br i1 %inside, label %axis.one, label %done
axis.one:
  %length = call i64 @field(ptr %sizes, i64 %number)
  %product.next = mul i64 %product, %length
  %number.next = add i64 %number, 1
  br label %axis
done:
  ret i64 %product
}

; Put a buffer's address into the table; tell whether it is of the size that its row has.
define internal i1 @enter(ptr %row, i64 %place, ptr %buffer) {
  %data = call ptr @pointer(ptr %buffer, i64 3)
  %at = getelementptr ptr, ptr %row, i64 %place
  store ptr %data, ptr %at
  %own = call i64 @size(ptr %buffer)
  %right = call i64 @field(ptr %row, i64 $ARRAYS)
  %fits = icmp eq i64 %own, %right
  ret i1 %fits
}

; Whether an output that is not listed is in the memory of its input, as XLA has promised.
define internal i1 @is_aliased(ptr %row, i64 %place, ptr %result) {
  %data = call ptr @pointer(ptr %result, i64 3)
  %input = call ptr @pointer(ptr %row, i64 %place)
  %same = icmp eq ptr %data, %input
  ret i1 %same
}

define internal ptr @error(ptr %frame) {
  %arguments = alloca [4 x i64]
  %api = call ptr @pointer(ptr %frame, i64 2)
  %create = call ptr @pointer(ptr %api, i64 6)
  store i64 28, ptr %arguments
  %extension.at = getelementptr i64, ptr %arguments, i64 1
  store i64 0, ptr %extension.at
  %message.at = getelementptr ptr, ptr %arguments, i64 2
  store ptr @refusal, ptr %message.at
  %code.at = getelementptr i64, ptr %arguments, i64 3
  store i64 3, ptr %code.at                       ; XLA_FFI_Error_Code_INVALID_ARGUMENT
  %error = call ptr %create(ptr %arguments)
  ret ptr %error
}

@refusal = internal constant [86 x i8] c"surefoot: no memory for a table, or a row of tensors that differ; nothing was written\00"

define ptr @handler(ptr %frame) {
entry:
  %extension = call ptr @pointer(ptr %frame, i64 1)
  %is.call = icmp eq ptr %extension, null
  br i1 %is.call, label %step, label %query
query:
  %kind = call i64 @field(ptr %extension, i64 1)
  %kind.low = and i64 %kind, 4294967295
  %is.metadata = icmp eq i64 %kind.low, 1
  br i1 %is.metadata, label %metadata, label %step
metadata:
  %facts = call ptr @pointer(ptr %extension, i64 3)
  %version.at = getelementptr i64, ptr %facts, i64 3
  store i64 $VERSION, ptr %version.at
  %traits.at = getelementptr i64, ptr %facts, i64 4
  store i32 0, ptr %traits.at
  ret ptr null
step:
  %arguments = call ptr @pointer(ptr %frame, i64 9)
  %results.count = call i64 @field(ptr %frame, i64 12)
  %results = call ptr @pointer(ptr %frame, i64 14)
  %rows = sdiv i64 %results.count, $OUTPUTS
  %bytes = mul i64 %rows, $ROW_BYTES
  %table = call ptr @surefoot_allocate(i64 %bytes)
  %no.memory = icmp eq ptr %table, null
  br i1 %no.memory, label %refuse, label %scalars.first
scalars.first:
  %scalars.buffer = call ptr @pointer(ptr %arguments, i64 0)
  %scalars = call ptr @pointer(ptr %scalars.buffer, i64 3)
  br label %row
row:
  %number = phi i64 [ 0, %scalars.first ], [ %number.next, %row.one ]
  %fits = phi i1 [ true, %scalars.first ], [ %fits.next, %row.one ]
  %inside = icmp slt i64 %number, %rows
  br i1 %inside, label %row.one, label %rows.done
row.one:
  %place = mul i64 %number, $WIDTH
  %here = getelementptr i64, ptr %table, i64 %place
  %inputs.before = mul i64 %number, $INPUTS
  %inputs = add i64 %inputs.before, 1
  %outputs = mul i64 %number, $OUTPUTS
  %reference = call ptr @pointer(ptr %arguments, i64 %inputs)
  %reference.size = call i64 @size(ptr %reference)
  %size.at = getelementptr i64, ptr %here, i64 $ARRAYS
  store i64 %reference.size, ptr %size.at
$KEY
$ENTRIES
  %number.next = add i64 %number, 1
  br label %row
rows.done:
  br i1 %fits, label %run, label %refuse
run:
  %ran = call i64 @run(ptr %scalars, ptr %table, i64 %rows, i64 $THREADS)
  call void @surefoot_release(ptr %table)
  ret ptr null
refuse:
  call void @surefoot_release(ptr %table)
  %error = call ptr @error(ptr %frame)
  ret ptr %error
}

declare ptr @surefoot_allocate(i64)
declare void @surefoot_release(ptr)
