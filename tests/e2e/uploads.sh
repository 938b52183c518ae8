#!/usr/bin/env bash
# Data sets as users have them: numpy's files, CIFAR's archive, pictures in a zip file, sent with curl; and a job that augments them.
. "$(dirname "$0")/daemon.bash"
start
uploads=$source/tests/data/uploads
new() { expect 201 POST /v1/datasets -d "$1"; dataset=$(field .id); }
put() { expect 201 PUT "/v1/datasets/$dataset/$1" -T "$uploads/$2"; }
is() { [ "$(jq -c "$1" <<<"$reply")" = "$2" ] || fail "$1 is not $2: $reply"; }

new '{"scaling": "channel"}'
put train/features images_v3.npy.gz
put train/labels labels.npy
is .shape '[4,5,3]'
new '{}'
for split in train validation test; do put $split/table medmnist.npz; done
is '[.ready, .splits[].features.samples]' '[true,3,2,2]'
new '{"format": "cifar10"}'
put train/table cifar-10-binary.tar.gz
put test/table cifar-10-binary.tar.gz
is '[.ready, .shape, .splits.train.labels.n_classes, .splits.test.features.samples, .format.type]' '[true,[32,32,3],10,1,"cifar10"]'

new '{"scaling": "channel"}'
for bad in sizes broken_png no_folder; do
  call PUT "/v1/datasets/$dataset/train/table" -T "$uploads/bad_$bad.zip"
  [[ $status = 4?? && $(field .detail) = *.png:* ]] || fail "bad_$bad.zip: $status $reply"
done
expect_problem 413 "" PUT "/v1/datasets/$dataset/train/table" -T "$uploads/bad_bomb.zip"
expect_problem 422 "" PUT "/v1/datasets/$dataset/train/labels" -T "$uploads/colour.zip"
put train/table colour.tar.gz
put test/table colour.zip
is '[.ready, .shape, .classes]' '[true,[6,8,3],["no","yes"]]'
expect 201 POST /v1/models -d '{"class_name": "Sequential", "config": {"name": "s", "layers": [
  {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 6, 8, 3], "name": "in"}}, {"class_name": "Flatten", "config": {"name": "flat"}},
  {"class_name": "Dense", "config": {"name": "out", "units": 2, "activation": "softmax"}}]}}'
job='"model": "'$(field .id)'", "dataset": "'$dataset'", "prune": {"iterations": 1, "target_sparsity": 0.5}'
for at in shift cutout; do
  expect_problem 422 "/train/augment/$at" POST /v1/jobs -H 'Content-Type: application/json' -d '{'"$job"', "train": {"augment": {"'$at'": 9}}}'
done
expect 201 POST /v1/jobs -d '{'"$job"', "train": {"epochs": 3, "augment": {"flip": "horizontal", "shift": 2, "cutout": 3}}}'
id=$(field .id)
[ "$(field .config.retrain.augment.shift)" = 2 ] || fail "retrain does not augment as train does: $reply"
wait_state "$id" succeeded 60
stop
[ "$(find "$data" -name '*.tmp' | wc -l)" = 0 ] || fail "something stayed: $(find "$data" -name '*.tmp')"
