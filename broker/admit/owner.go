package admit

// OtherUsers says what happens to a CONNECT with the client id of another user's session.
type OtherUsers uint8

// The values of other_user_session.
const (
	FreshSession  OtherUsers = iota // it gets a new session, and the old one ends
	RefuseSession                   // it is refused while the other session lasts
	ResumeSession                   // it gets the session, as with Mosquitto, if the mount point is the same
)

// Owner is whose a session is: the user's and the mount point's with which its client has connected last. A
// client id is no secret, so it alone gives nobody the messages of another: who comes with the id of somebody
// else's session gets a new one, and the old one ends. Of sessions from before this was stored not all is
// known; what is not known is anybody's.
type Owner struct {
	User, Mount       string
	AnyUser, AnyMount bool // it is not known
}

// Foreign reports whether the session is not that of a user who comes by a mount point.
func (o Owner) Foreign(user []byte, mount string, others OtherUsers) bool {
	if !o.AnyMount && o.Mount != mount {
		return true
	}
	return !o.AnyUser && o.User != string(user) && others != ResumeSession
}
