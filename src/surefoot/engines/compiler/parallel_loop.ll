; How threads share a loop. In C:
;
;   struct work { scalar *scalars; int64 *table; int64 rows, total, taken; };
;
;   void *worker(struct work *work) {                 // what each thread does
;     int64 chunk = atomic_fetch_add(&work->taken, CHUNK);
;     for (; chunk < work->total; chunk = atomic_fetch_add(&work->taken, CHUNK))
;       for (row = 0, first = chunk; row < work->rows; row++) {   // the rows' numbers in sequence
;         size = work->table[row][ARRAYS];
;         if (first < size && first + CHUNK > 0)
;           numbers(work->scalars, work->table[row], max(first, 0), min(first + CHUNK, size));
;         first -= size;
;       }
;   }
;
;   int64 run(scalar *scalars, int64 *table, int64 rows, int64 threads);   // 0
;
; A row of the table holds the addresses of ARRAYS arrays, how many numbers each has, and its key. A
; thread takes chunks as long as there are any, so that one that starts late leaves them to the
; others.
; The loop writes only into the arrays, and only there: `numbers` is the function made of the rule.

; Whether there is nothing to do: where a condition stands before the scalars and does not hold.
define internal i1 @idle(ptr %scalars) {
$IDLE
}

%work = type { ptr, ptr, i64, i64, i64 }

define internal ptr @worker(ptr %work) {
entry:
  %scalars = load ptr, ptr %work
  %table.at = getelementptr %work, ptr %work, i64 0, i32 1
  %table = load ptr, ptr %table.at
  %rows.at = getelementptr %work, ptr %work, i64 0, i32 2
  %rows = load i64, ptr %rows.at
  %total.at = getelementptr %work, ptr %work, i64 0, i32 3
  %total = load i64, ptr %total.at
  %taken.at = getelementptr %work, ptr %work, i64 0, i32 4
  br label %take
take:
  %chunk = atomicrmw add ptr %taken.at, i64 $CHUNK monotonic
  %more = icmp slt i64 %chunk, %total
  br i1 %more, label %row, label %done
row:
  %number = phi i64 [ 0, %take ], [ %number.next, %row.end ]
  %first = phi i64 [ %chunk, %take ], [ %first.next, %row.end ]
  %inside = icmp slt i64 %number, %rows
  br i1 %inside, label %row.size, label %take
row.size:
  %place = mul i64 %number, $WIDTH
  %here = getelementptr i64, ptr %table, i64 %place
  %size.at = getelementptr i64, ptr %here, i64 $ARRAYS
  %size = load i64, ptr %size.at
  %last = add i64 %first, $CHUNK
  %begins = icmp slt i64 %first, %size
  %reaches = icmp sgt i64 %last, 0
  %some = and i1 %begins, %reaches
  br i1 %some, label %row.numbers, label %row.end
row.numbers:
  %before = icmp slt i64 %first, 0
  %from = select i1 %before, i64 0, i64 %first
  %beyond = icmp sgt i64 %last, %size
  %to = select i1 %beyond, i64 %size, i64 %last
  call void @numbers(ptr %scalars, ptr %here, i64 %from, i64 %to)
  br label %row.end
row.end:
  %number.next = add i64 %number, 1
  %first.next = sub i64 %first, %size
  br label %row
done:
  ret ptr null
}

define i64 @run(ptr %scalars, ptr %table, i64 %rows, i64 %threads) {
entry:
  %work = alloca %work
  %handles = alloca i64, i64 $MOST_THREADS
  %idle = call i1 @idle(ptr %scalars)
  br i1 %idle, label %done, label %sum
sum:
  %number = phi i64 [ 0, %entry ], [ %number.next, %sum.row ]
  %total = phi i64 [ 0, %entry ], [ %total.next, %sum.row ]
  %inside = icmp slt i64 %number, %rows
  br i1 %inside, label %sum.row, label %begin
sum.row:
  %place = mul i64 %number, $WIDTH
  %size.place = add i64 %place, $ARRAYS
  %size.at = getelementptr i64, ptr %table, i64 %size.place
  %size = load i64, ptr %size.at
  %total.next = add i64 %total, %size
  %number.next = add i64 %number, 1
  br label %sum
begin:
  store ptr %scalars, ptr %work
  %table.at = getelementptr %work, ptr %work, i64 0, i32 1
  store ptr %table, ptr %table.at
  %rows.at = getelementptr %work, ptr %work, i64 0, i32 2
  store i64 %rows, ptr %rows.at
  %total.at = getelementptr %work, ptr %work, i64 0, i32 3
  store i64 %total, ptr %total.at
  %taken.at = getelementptr %work, ptr %work, i64 0, i32 4
  store i64 0, ptr %taken.at
  %worth = sdiv i64 %total, $WORTH_A_THREAD
  %wanted = call i64 @llvm.smin.i64(i64 %worth, i64 %threads)
  %others.wanted = sub i64 %wanted, 1
  %others = call i64 @llvm.smin.i64(i64 %others.wanted, i64 $MOST_THREADS)
  br label %start
start:                                            ; fewer threads than wanted may be had
  %started = phi i64 [ 0, %begin ], [ %started.next, %started.one ]
  %wants = icmp slt i64 %started, %others
  br i1 %wants, label %start.one, label %join.all
start.one:
  %handle = getelementptr i64, ptr %handles, i64 %started
  %failed = call i32 @surefoot_create_thread(ptr %handle, ptr null, ptr @worker, ptr %work)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %started.one, label %join.all
started.one:
  %started.next = add i64 %started, 1
  br label %start
join.all:
  %own = call ptr @worker(ptr %work)
  br label %join
join:
  %joined = phi i64 [ 0, %join.all ], [ %joined.next, %join.one ]
  %left = icmp slt i64 %joined, %started
  br i1 %left, label %join.one, label %done
join.one:
  %joined.at = getelementptr i64, ptr %handles, i64 %joined
  %joined.handle = load i64, ptr %joined.at
  %ignored = call i32 @surefoot_join_thread(i64 %joined.handle, ptr null)
  %joined.next = add i64 %joined, 1
  br label %join
done:
  ret i64 0
}

declare i64 @llvm.smin.i64(i64, i64)
declare i32 @surefoot_create_thread(ptr, ptr, ptr, ptr)
declare i32 @surefoot_join_thread(i64, ptr)
