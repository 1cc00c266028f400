"""What COMMAND tells about each command: group, keys, syntax and a summary.

One line a command: `name group since first last step | syntax | summary`, where first, last and
step are the places of keys (0 0 0: none; last negative: from the end). The syntax is that of
manuals: UPPER CASE tokens, `[optional]`, `a|b` alternatives in `<>` or `[]`, `...` for more.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_TEXT: Final = """
append string 2.0.0 1 1 1 | key value | Appends to a string.
copy generic 6.2.0 1 2 1 | source destination [REPLACE] | Copies a key.
dbsize server 1.0.0 0 0 0 | | Counts the keys.
decr string 1.0.0 1 1 1 | key | Subtracts one from an integer.
decrby string 1.0.0 1 1 1 | key decrement | Subtracts from an integer.
del generic 1.0.0 1 -1 1 | key ... | Removes keys.
exists generic 1.0.0 1 -1 1 | key ... | Counts the keys that exist.
expire generic 1.0.0 1 1 1 | key seconds [NX|XX|GT|LT] | Lets a key end after seconds.
expireat generic 1.2.0 1 1 1 | key unix-time [NX|XX|GT|LT] | Lets a key end at a time.
expiretime generic 7.0.0 1 1 1 | key | When a key ends, in seconds.
flushall server 1.0.0 0 0 0 | [ASYNC|SYNC] | Removes every key.
flushdb server 1.0.0 0 0 0 | [ASYNC|SYNC] | Removes every key.
get string 1.0.0 1 1 1 | key | Returns a string.
getdel string 6.2.0 1 1 1 | key | Returns a string and removes its key.
getex string 6.2.0 1 1 1 | key [EX seconds] [PX ms] [EXAT time] [PXAT ms-time] [PERSIST] \
| Returns a string and sets its end.
getrange string 2.4.0 1 1 1 | key start end | Returns some bytes of a string.
getset string 1.0.0 1 1 1 | key value | Sets a string and returns the old one.
hdel hash 2.0.0 1 1 1 | key field ... | Removes fields of a hash.
hexists hash 2.0.0 1 1 1 | key field | Tells whether a hash has a field.
hget hash 2.0.0 1 1 1 | key field | Returns the value of a field.
hgetall hash 2.0.0 1 1 1 | key | Returns all fields and values.
hincrby hash 2.0.0 1 1 1 | key field increment | Adds to an integer in a hash.
hincrbyfloat hash 2.6.0 1 1 1 | key field increment | Adds to a number in a hash.
hkeys hash 2.0.0 1 1 1 | key | Returns all fields of a hash.
hlen hash 2.0.0 1 1 1 | key | Counts the fields of a hash.
hmget hash 2.0.0 1 1 1 | key field ... | Returns the values of fields.
hmset hash 2.0.0 1 1 1 | key field value ... | Sets fields of a hash.
hrandfield hash 6.2.0 1 1 1 | key [count] [WITHVALUES] | Returns random fields.
hscan hash 2.8.0 1 1 1 | key cursor [MATCH pattern] [COUNT count] | Walks through a hash.
hset hash 2.0.0 1 1 1 | key field value ... | Sets fields of a hash.
hsetnx hash 2.0.0 1 1 1 | key field value | Sets a field that is not there.
hstrlen hash 3.2.0 1 1 1 | key field | Counts the bytes of a field's value.
hvals hash 2.0.0 1 1 1 | key | Returns all values of a hash.
incr string 1.0.0 1 1 1 | key | Adds one to an integer.
incrby string 1.0.0 1 1 1 | key increment | Adds to an integer.
incrbyfloat string 2.6.0 1 1 1 | key increment | Adds to a number.
keys generic 1.0.0 0 0 0 | pattern | Returns the keys that match a pattern.
lindex list 1.0.0 1 1 1 | key index | Returns an element by its place.
linsert list 2.2.0 1 1 1 | key <BEFORE|AFTER> pivot element | Inserts beside an element.
llen list 1.0.0 1 1 1 | key | Counts the elements of a list.
lmove list 6.2.0 1 2 1 | source destination <LEFT|RIGHT> <LEFT|RIGHT> | Moves an element.
lpop list 1.0.0 1 1 1 | key [count] | Removes elements from the front.
lpos list 6.0.6 1 1 1 | key element [RANK rank] [COUNT count] [MAXLEN len] | Finds an element.
lpush list 1.0.0 1 1 1 | key element ... | Adds elements in front.
lpushx list 2.2.0 1 1 1 | key element ... | Adds in front of a list that exists.
lrange list 1.0.0 1 1 1 | key start stop | Returns a range of a list.
lrem list 1.0.0 1 1 1 | key count element | Removes equal elements.
lset list 1.0.0 1 1 1 | key index element | Sets an element by its place.
ltrim list 1.0.0 1 1 1 | key start stop | Keeps a range of a list.
mget string 1.0.0 1 -1 1 | key ... | Returns strings.
mset string 1.0.1 1 -1 2 | key value ... | Sets strings.
msetnx string 1.0.1 1 -1 2 | key value ... | Sets strings if none of the keys exists.
object generic 2.2.3 2 2 1 | <ENCODING|FREQ|IDLETIME|REFCOUNT|HELP> [key] | Shows a key's form.
persist generic 2.2.0 1 1 1 | key | Takes a key's end away.
pexpire generic 2.6.0 1 1 1 | key milliseconds [NX|XX|GT|LT] | Lets a key end after milliseconds.
pexpireat generic 2.6.0 1 1 1 | key ms-time [NX|XX|GT|LT] | Lets a key end at a time.
pexpiretime generic 7.0.0 1 1 1 | key | When a key ends, in milliseconds.
psetex string 2.6.0 1 1 1 | key milliseconds value | Sets a string that ends.
pttl generic 2.6.0 1 1 1 | key | Milliseconds until a key ends.
randomkey generic 1.0.0 0 0 0 | | Returns a random key.
rename generic 1.0.0 1 2 1 | key newkey | Renames a key.
renamenx generic 1.0.0 1 2 1 | key newkey | Renames a key to a free name.
rpop list 1.0.0 1 1 1 | key [count] | Removes elements from the end.
rpoplpush list 1.2.0 1 2 1 | source destination | Moves the last element to another front.
rpush list 1.0.0 1 1 1 | key element ... | Adds elements at the end.
rpushx list 2.2.0 1 1 1 | key element ... | Adds to the end of a list that exists.
sadd set 1.0.0 1 1 1 | key member ... | Adds members to a set.
scan generic 2.8.0 0 0 0 | cursor [MATCH pattern] [COUNT count] [TYPE type] | Walks through keys.
scard set 1.0.0 1 1 1 | key | Counts the members of a set.
sdiff set 1.0.0 1 -1 1 | key ... | Members of the first set alone.
sdiffstore set 1.0.0 1 -1 1 | destination key ... | Stores a difference of sets.
set string 1.0.0 1 1 1 | key value [NX|XX] [GET] [EX seconds] [PX ms] [EXAT time] \
[PXAT ms-time] [KEEPTTL] | Sets a string.
setex string 2.0.0 1 1 1 | key seconds value | Sets a string that ends.
setnx string 1.0.0 1 1 1 | key value | Sets a string whose key is free.
setrange string 2.2.0 1 1 1 | key offset value | Overwrites bytes of a string.
sinter set 1.0.0 1 -1 1 | key ... | Members that all sets share.
sintercard set 7.0.0 0 0 0 | numkeys key ... [LIMIT limit] | Counts what all sets share.
sinterstore set 1.0.0 1 -1 1 | destination key ... | Stores an intersection of sets.
sismember set 1.0.0 1 1 1 | key member | Tells whether a set has a member.
smembers set 1.0.0 1 1 1 | key | Returns all members of a set.
smismember set 6.2.0 1 1 1 | key member ... | Tells which members a set has.
smove set 1.0.0 1 2 1 | source destination member | Moves a member to another set.
spop set 1.0.0 1 1 1 | key [count] | Removes random members.
srandmember set 1.0.0 1 1 1 | key [count] | Returns random members.
srem set 1.0.0 1 1 1 | key member ... | Removes members from a set.
sscan set 2.8.0 1 1 1 | key cursor [MATCH pattern] [COUNT count] | Walks through a set.
strlen string 2.2.0 1 1 1 | key | Counts the bytes of a string.
substr string 1.0.0 1 1 1 | key start end | Returns some bytes of a string.
sunion set 1.0.0 1 -1 1 | key ... | Members of any of the sets.
sunionstore set 1.0.0 1 -1 1 | destination key ... | Stores a union of sets.
tget tree 0.1.0 0 0 0 | path [attribute] | Returns attributes of a tree node.
tls tree 0.1.0 0 0 0 | [path] | Lists the children of a tree node.
tmk tree 0.1.0 0 0 0 | path [attribute value ...] | Makes a tree node.
touch generic 3.2.1 1 -1 1 | key ... | Counts the keys that exist.
trm tree 0.1.0 0 0 0 | path [attribute ...] | Removes a tree node or attributes of it.
tset tree 0.1.0 0 0 0 | path attribute value ... | Sets attributes of a tree node.
ttl generic 1.0.0 1 1 1 | key | Seconds until a key ends.
type generic 1.0.0 1 1 1 | key | Tells the type of a key.
unlink generic 4.0.0 1 -1 1 | key ... | Removes keys.
zadd sorted-set 1.2.0 1 1 1 | key [NX|XX] [GT|LT] [CH] [INCR] score member ... | Adds members.
zcard sorted-set 1.2.0 1 1 1 | key | Counts the members.
zcount sorted-set 2.0.0 1 1 1 | key min max | Counts the members in a range of scores.
zincrby sorted-set 1.2.0 1 1 1 | key increment member | Adds to a score.
zlexcount sorted-set 2.8.9 1 1 1 | key min max | Counts the members in a lexical range.
zmscore sorted-set 6.2.0 1 1 1 | key member ... | Returns scores.
zpopmax sorted-set 5.0.0 1 1 1 | key [count] | Removes the members with the highest scores.
zpopmin sorted-set 5.0.0 1 1 1 | key [count] | Removes the members with the lowest scores.
zrandmember sorted-set 6.2.0 1 1 1 | key [count] [WITHSCORES] | Returns random members.
zrange sorted-set 1.2.0 1 1 1 | key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] \
[WITHSCORES] | Returns a range.
zrangebylex sorted-set 2.8.9 1 1 1 | key min max [LIMIT offset count] | Range by bytes.
zrangebyscore sorted-set 1.0.5 1 1 1 | key min max [WITHSCORES] [LIMIT offset count] \
| Range by score.
zrank sorted-set 2.0.0 1 1 1 | key member | Place from the lowest score.
zrem sorted-set 1.2.0 1 1 1 | key member ... | Removes members.
zremrangebylex sorted-set 2.8.9 1 1 1 | key min max | Removes a lexical range.
zremrangebyrank sorted-set 2.0.0 1 1 1 | key start stop | Removes a range of places.
zremrangebyscore sorted-set 1.2.0 1 1 1 | key min max | Removes a range of scores.
zrevrange sorted-set 1.2.0 1 1 1 | key start stop [WITHSCORES] | Range from the highest score.
zrevrangebylex sorted-set 2.8.9 1 1 1 | key max min [LIMIT offset count] | Range by bytes, down.
zrevrangebyscore sorted-set 2.2.0 1 1 1 | key max min [WITHSCORES] [LIMIT offset count] \
| Range by score, down.
zrevrank sorted-set 2.0.0 1 1 1 | key member | Place from the highest score.
zscan sorted-set 2.8.0 1 1 1 | key cursor [MATCH pattern] [COUNT count] | Walks through members.
zscore sorted-set 1.2.0 1 1 1 | key member | Returns a score.
add_node server 0.1.0 0 0 0 | nid address | Adds a member to the cluster.
bgsave server 1.0.0 0 0 0 | [SCHEDULE] | Starts to write a snapshot.
checkpoint server 0.1.0 0 0 0 | | Writes a snapshot and waits for it.
cluster cluster 3.0.0 0 0 0 | subcommand [argument ...] | The group as one Redis Cluster shard.
command server 2.8.13 0 0 0 | [subcommand] [argument ...] | Describes the commands.
config server 2.0.0 0 0 0 | <GET|SET|RESETSTAT> [argument ...] | Reads or changes settings.
debug server 1.0.0 0 0 0 | subcommand ... | Refused.
del_node server 0.1.0 0 0 0 | nid | Removes a member from the cluster.
echo connection 1.0.0 0 0 0 | message | Returns the message.
getdump server 0.1.0 0 0 0 | [cursor] [count] | Returns keys and values as JSON, page by page.
getlog server 0.1.0 0 0 0 | [start] [end] | Shows entries of this node's log.
info server 1.0.0 0 0 0 | [section ...] | Tells about this node.
lastsave server 1.0.0 0 0 0 | | When the last snapshot was written.
lolwut server 5.0.0 0 0 0 | [VERSION version] | Shows the version.
memory server 4.0.0 0 0 0 | <USAGE|HELP> [argument ...] | Estimates the memory of a key.
ping connection 1.0.0 0 0 0 | [message] | Returns PONG or the message.
raft server 0.1.0 0 0 0 | subcommand [argument ...] | Looks after the cluster.
readonly cluster 3.0.0 0 0 0 | | Accepted; every node answers reads.
readwrite cluster 3.0.0 0 0 0 | | Accepted; every node answers reads.
role server 2.8.12 0 0 0 | | Tells whether this node leads.
save server 1.0.0 0 0 0 | | Writes a snapshot and waits for it.
sentinel server 2.8.4 0 0 0 | subcommand ... | Refused; this is no Sentinel.
shutdown server 1.0.0 0 0 0 | [NOSAVE|SAVE] | Stops this node.
time server 2.6.0 0 0 0 | | This node's clock.
wait generic 3.0.0 0 0 0 | numreplicas timeout | How many others hold what was acknowledged.
hello connection 6.0.0 0 0 0 | [protover] [AUTH username password] [SETNAME name] | Greets.
auth connection 1.0.0 0 0 0 | [username] password | Authenticates the connection.
client connection 2.4.0 0 0 0 | subcommand [argument ...] | Looks after connections.
select connection 1.0.0 0 0 0 | index | Accepts database 0.
reset connection 6.2.0 0 0 0 | | Makes the connection as new.
quit connection 1.0.0 0 0 0 | | Ends the connection.
"""


class Doc(NamedTuple):
    """One command's line: keys are at places first, first+step ... last."""

    group: str
    since: str
    first: int
    last: int
    step: int
    syntax: str
    summary: str


def _parse(text: str) -> dict[str, Doc]:
    docs = {}
    for line in text.strip().splitlines():
        head, syntax, summary = (part.strip() for part in line.split("|", 1)[0:1] + _tail(line))
        name, group, since, first, last, step = head.split()
        docs[name] = Doc(group, since, int(first), int(last), int(step), syntax, summary)
    return docs


def _tail(line: str) -> list[str]:
    """The syntax and the summary; the syntax may hold bars itself."""
    rest = line.split("|", 1)[1]
    syntax, _, summary = rest.rpartition("|")
    return [syntax, summary]


DOCS: Final[dict[str, Doc]] = _parse(_TEXT)
